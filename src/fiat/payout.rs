//! Paying out by Daraja: to a phone (B2C), to a paybill (B2B), and asking what became of either. All three are answered later,
//! by a call to a ResultURL; what is said at once is only whether the request was taken.
//!
//! A request to a phone carries an id of ours, by which a second one is known as the first. Daraja promises no such thing for
//! bills: if one was sent and nothing is heard of it, its state is asked for.

use super::answers::{id_of, told, DarajaRefusal, Why};
use super::credentials::{read_secret, CredentialError};
use super::daraja::{Daraja, Failure};
use super::phone::Phone;
use crate::config::FiatConfig;
use crate::json::json;
use crate::store::Secret;
use crate::units::Kes;
use hyper::Method;
use serde_json::Value;

const B2C: &str = "/mpesa/b2c/v3/paymentrequest";
const B2B: &str = "/mpesa/b2b/v1/paymentrequest";
const STATUS: &str = "/mpesa/transactionstatus/v1/query";

/// Who pays out: the short code, and who acts for it.
pub struct Initiator {
    shortcode: String,
    name: String,
    credential: Secret,
}

impl Initiator {
    /// Reads the file of the credential.
    pub fn of(config: &FiatConfig) -> Result<Initiator, CredentialError> {
        let file = config.credential_file.as_deref();
        let file = file.ok_or_else(|| CredentialError::NoSecret("credential_file".to_owned()))?;
        Ok(Initiator {
            shortcode: config.shortcode.clone(),
            name: config.initiator.clone(),
            credential: read_secret(file)?,
        })
    }

    fn credential(&self) -> &str {
        std::str::from_utf8(self.credential.expose()).unwrap_or_default()
    }
}

/// Whom the money goes to.
pub enum Payee<'a> {
    Phone(&'a Phone),
    Bill { paybill: &'a str, account: &'a str },
}

/// One payment out.
pub struct Payment<'a> {
    /// The same at every try.
    pub originator: &'a str,
    pub amount: Kes,
    pub to: Payee<'a>,
    pub result_url: &'a str,
    pub timeout_url: &'a str,
}

/// What became of a request to pay out.
#[derive(Debug)]
pub enum PaidOut {
    /// It was taken, and can be asked about by this id; empty where they do not say it again. Its result comes.
    Accepted(String),
    /// Certainly not done.
    Refused(DarajaRefusal),
    /// It may be.
    Unknown(String),
}

impl Daraja {
    /// Pays out, or sends the same request once more.
    pub async fn pay_out(&self, from: &Initiator, payment: &Payment<'_>) -> PaidOut {
        let amount = payment.amount.0.to_string();
        let (path, mut body) = match &payment.to {
            Payee::Phone(phone) => {
                let body = json!({
                    "InitiatorName": from.name,
                    "CommandID": "BusinessPayment",
                    "PartyB": phone.expose(),
                    "Occassion": "wifi",
                });
                (B2C, body)
            }
            Payee::Bill { paybill, account } => {
                let body = json!({
                    "Initiator": from.name,
                    "CommandID": "BusinessPayBill",
                    "SenderIdentifierType": "4",
                    "RecieverIdentifierType": "4",
                    "PartyB": paybill,
                    "AccountReference": account,
                });
                (B2B, body)
            }
        };
        body["OriginatorConversationID"] = payment.originator.into();
        body["SecurityCredential"] = from.credential().into();
        body["Amount"] = amount.into();
        body["PartyA"] = from.shortcode.as_str().into();
        body["Remarks"] = "wifi".into();
        body["QueueTimeOutURL"] = payment.timeout_url.into();
        body["ResultURL"] = payment.result_url.into();
        self.put(path, &body).await
    }

    /// Asks for the payment out that has this OriginatorConversationID; its state is told at `result_url`.
    pub async fn ask_about(
        &self,
        from: &Initiator,
        originator: &str,
        result_url: &str,
    ) -> Result<(), String> {
        let body = json!({
            "Initiator": from.name,
            "SecurityCredential": from.credential(),
            "CommandID": "TransactionStatusQuery",
            "OriginalConversationID": originator,
            "PartyA": from.shortcode,
            "IdentifierType": "4",
            "Remarks": "wifi",
            "Occasion": "wifi",
            "QueueTimeOutURL": result_url,
            "ResultURL": result_url,
        });
        match self.put(STATUS, &body).await {
            PaidOut::Accepted(_) => Ok(()),
            PaidOut::Refused(refused) => Err(refused.code),
            PaidOut::Unknown(cause) => Err(cause),
        }
    }

    async fn put(&self, path: &str, body: &Value) -> PaidOut {
        let reply = match self.call(Method::POST, path, body).await {
            Ok(reply) => reply,
            Err(Failure::Refused(refused)) => return PaidOut::Refused(refused),
            Err(Failure::Lost(cause)) => return PaidOut::Unknown(cause),
        };
        let message = reply.text("errorMessage").to_ascii_lowercase();
        let is_known = reply.text("errorCode") == "500.002.1001" || message.contains("duplicate originator");
        if is_known && reply.status != 429 {
            return PaidOut::Accepted(String::new());
        }
        match (reply.status, reply.text("ResponseCode").as_str()) {
            (200, "0") => {
                PaidOut::Accepted(id_of(&reply.text("OriginatorConversationID")).unwrap_or_default())
            }
            (200, code) if !code.is_empty() => {
                PaidOut::Refused(DarajaRefusal { why: Why::Request, code: told(code) })
            }
            (status, _) => match reply.refused() {
                Some(refused) if refused.why == Why::Request && names_us(&message) => {
                    PaidOut::Refused(DarajaRefusal { why: Why::Credentials, code: refused.code })
                }
                Some(refused) => PaidOut::Refused(refused),
                None => PaidOut::Unknown(format!("HTTP {status}, and no answer that can be read")),
            },
        }
    }
}

/// Whether an error speaks of who pays out.
fn names_us(message: &str) -> bool {
    message.contains("initiator") || message.contains("credential")
}
