//! What an answer of Daraja means. The text is looked at before the code: one code stands for opposites.

use crate::json;
use serde_json::Value;

/// The longest id of others that is kept.
pub(super) const LONGEST_ID: usize = 100;

/// The one code of a server's own trouble that is also said of requests.
const TOLD_BY_TEXT: &str = "500.001.1001";

/// Why something was certainly not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DarajaRefusal {
    pub why: Why,
    /// Daraja's own code.
    pub code: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Key, secret or passkey is wrong.
    Credentials,
    /// Another prompt is open on that phone.
    PhoneBusy,
    /// Too much is asked: again in a while.
    Busy,
    /// It cannot be reached: nothing left.
    Away,
    /// The request is wrong, or what the operator has configured.
    Request,
}

/// What a query says of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptVerdict {
    Paid,
    Pending,
    /// Not paid so far, by this code. Where money is concerned it is not final.
    Failed(String),
    /// Asked too often.
    Busy,
    /// It cannot be told from the answer.
    Unclear(String),
}

/// An answer: its status, and its body where that is JSON of a bearable size and depth.
pub(super) struct DarajaReply {
    pub status: u16,
    pub body: Option<Value>,
}

impl DarajaReply {
    pub fn new(status: u16, body: &[u8]) -> DarajaReply {
        DarajaReply { status, body: json::read(body).filter(Value::is_object) }
    }

    /// A member as text, also where it is a number.
    pub fn text(&self, name: &str) -> String {
        text_of(self.body.as_ref().map_or(&Value::Null, |body| &body[name]))
    }

    fn message(&self) -> String {
        self.text("errorMessage").to_ascii_lowercase()
    }

    /// Whether the token is dead, which is said in many ways.
    pub fn is_dead_token(&self) -> bool {
        let code = self.text("errorCode");
        let is_said = ["404.001.03", "400.003.01", "401.003.01"].contains(&code.as_str());
        // Who is asked too much has not looked at the token, whatever is said beside.
        self.status == 401 || (self.status != 429 && (is_said || self.message().contains("access token")))
    }

    /// Whether what was asked may have been done beside: Daraja also says that it is busy after it has taken something.
    pub fn is_overloaded(&self) -> bool {
        self.text("errorCode").starts_with("500.003.") || self.message().contains("system is busy")
    }

    /// The refusal, if it is a sure one.
    pub fn refused(&self) -> Option<DarajaRefusal> {
        let (code, message) = (self.text("errorCode"), self.message());
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        let why = if self.status == 429 {
            // Said at the door, before anything is looked at: the text beside is of no request.
            Why::Busy
        } else if says(&["being processed", "under processing"]) {
            return None;
        } else if says(&["spike arrest", "quota"]) {
            Why::Busy
        } else if code.is_empty() || self.is_overloaded() {
            return None;
        } else if self.status == 408 || (self.status >= 500 && code != TOLD_BY_TEXT) {
            // Trouble of theirs says nothing of what was asked.
            return None;
        } else if says(&["unable to lock subscriber"]) {
            Why::PhoneBusy
        } else if says(&["wrong credentials", "invalid authentication", "invalid credentials"]) {
            Why::Credentials
        } else if says(&["does not exist", "bad request", "invalid"]) || (400..500).contains(&self.status) {
            Why::Request
        } else {
            return None;
        };
        Some(DarajaRefusal { why, code: told(&code) })
    }

    /// What it says of the prompt with this id.
    pub fn verdict(&self, checkout: &str) -> PromptVerdict {
        let message = self.message();
        let is_pending = |text: &str| text.contains("being processed") || text.contains("under processing");
        if self.status != 429 && is_pending(&message) {
            return PromptVerdict::Pending;
        }
        match self.refused() {
            Some(DarajaRefusal { why: Why::Busy, .. }) => return PromptVerdict::Busy,
            Some(refused) => return PromptVerdict::Unclear(refused.code),
            None if self.is_overloaded() => return PromptVerdict::Busy,
            None => {}
        }
        if self.status != 200 || self.body.is_none() {
            return PromptVerdict::Unclear(format!("HTTP {}", self.status));
        }
        // One that speaks of another prompt, or of none, lies.
        if self.text("CheckoutRequestID") != checkout {
            return PromptVerdict::Unclear("an answer about another payment".to_owned());
        }
        let (code, text) = (self.text("ResultCode"), self.text("ResultDesc").to_ascii_lowercase());
        match code.as_str() {
            _ if is_pending(&text) => PromptVerdict::Pending,
            "4999" => PromptVerdict::Pending,
            "" => PromptVerdict::Unclear("no result".to_owned()),
            "0" => PromptVerdict::Paid,
            code => PromptVerdict::Failed(told(code)),
        }
    }
}

/// Text, or a number as text.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// An id of theirs, where it can be one.
pub(super) fn id_of(text: &str) -> Option<String> {
    let is_id = (1..=LONGEST_ID).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    is_id.then(|| text.to_owned())
}

/// A code of theirs, as far as it can be one.
pub(super) fn told(code: &str) -> String {
    code.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')).take(24).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, text: &str) -> DarajaReply {
        DarajaReply::new(status, text.as_bytes())
    }

    fn error(status: u16, code: &str, message: &str) -> DarajaReply {
        reply(status, &format!(r#"{{"requestId":"1","errorCode":"{code}","errorMessage":"{message}"}}"#))
    }

    fn result(code: &str, text: &str) -> PromptVerdict {
        let body = format!(
            r#"{{"ResponseCode":"0","CheckoutRequestID":"ws_CO_1","ResultCode":{code},"ResultDesc":"{text}"}}"#
        );
        reply(200, &body).verdict("ws_CO_1")
    }

    #[test]
    fn pending_has_three_shapes() {
        let being = error(500, "500.001.1001", "The transaction is being processed");
        assert_eq!((being.verdict("x"), being.refused()), (PromptVerdict::Pending, None));
        for code in ["\"4999\"", "4999", "\"1037\"", "\"1\""] {
            assert_eq!(
                result(code, "The transaction is still under processing"),
                PromptVerdict::Pending,
                "{code}"
            );
        }
        assert_eq!(result("4999", ""), PromptVerdict::Pending);
    }

    #[test]
    fn a_result_is_read_as_text_or_number_and_of_the_asked_payment_only() {
        for code in ["0", "\"0\""] {
            assert_eq!(result(code, "The service request is processed successfully."), PromptVerdict::Paid);
        }
        assert_eq!(result("\"SFC_IC0003\"", "no"), PromptVerdict::Failed("SFC_IC0003".to_owned()));
        assert_eq!(result("1032", "Request cancelled by user"), PromptVerdict::Failed("1032".to_owned()));
        let other = reply(200, r#"{"CheckoutRequestID":"ws_CO_2","ResultCode":"0","ResultDesc":"ok"}"#);
        assert!(matches!(other.verdict("ws_CO_1"), PromptVerdict::Unclear(_)));
        assert!(matches!(reply(200, r#"{"ResultCode":"0"}"#).verdict("ws_CO_1"), PromptVerdict::Unclear(_)));
        assert!(matches!(result("null", ""), PromptVerdict::Unclear(_)));
    }

    #[test]
    fn what_is_no_json_says_nothing() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        for text in ["", "<html>502</html>", "{\"ResultCode\":\"0\"", "[]", "7", deep.as_str()] {
            assert!(matches!(reply(200, text).verdict("x"), PromptVerdict::Unclear(_)), "{text:.20}");
            assert_eq!(reply(502, text).refused(), None);
        }
    }

    #[test]
    fn one_code_with_four_texts_is_four_things() {
        let why = |message: &str| error(500, "500.001.1001", message).refused().map(|refused| refused.why);
        assert_eq!(why("Wrong credentials"), Some(Why::Credentials));
        assert_eq!(
            why("[MpesaCB - ]Unable to lock subscriber, a transaction is already in process"),
            Some(Why::PhoneBusy)
        );
        assert_eq!(why("Merchant does not exist"), Some(Why::Request));
        assert_eq!(why("The transaction is being processed"), None);
        assert_eq!(why("Something else"), None);
        let spike = error(500, "500.003.02", "Error Occurred: Spike Arrest Violation");
        assert_eq!(spike.refused().map(|refused| refused.why), Some(Why::Busy));
        assert_eq!(spike.verdict("x"), PromptVerdict::Busy);
        let quota = error(500, "500.003.03", "Quota Violation");
        assert_eq!(quota.refused().map(|refused| refused.why), Some(Why::Busy));
        let busy = error(500, "500.003.02", "System is busy. Please try again in few minutes.");
        assert_eq!(
            (busy.refused(), busy.verdict("x")),
            (None, PromptVerdict::Busy),
            "it may have been taken"
        );
        assert_eq!(
            error(400, "400.002.02", "Bad Request - Invalid Amount").refused().unwrap().why,
            Why::Request
        );
    }

    #[test]
    fn the_status_of_too_much_or_of_their_own_trouble_counts_before_the_text() {
        for (code, message) in [
            ("1", "Too many"),
            ("429.001.01", "Bad Request - Invalid rate"),
            ("400.002.02", "Bad Request - Invalid Amount"),
            ("404.001.03", "Invalid Access Token"),
            ("500.001.1001", "Wrong credentials"),
            ("500.001.1001", "The transaction is being processed"),
        ] {
            let busy = error(429, code, message);
            assert_eq!(busy.refused().map(|refused| refused.why), Some(Why::Busy), "{code} {message}");
            assert_eq!((busy.verdict("x"), busy.is_dead_token()), (PromptVerdict::Busy, false), "{code}");
        }
        for status in [408, 500, 502, 503, 504] {
            for code in ["400.002.02", "500.002.01", "503.001"] {
                let trouble = error(status, code, "Bad Request - Invalid answer of a server behind");
                assert_eq!(trouble.refused(), None, "{status} {code}");
            }
        }
    }

    #[test]
    fn a_dead_token_is_known_in_every_way_it_is_said() {
        assert!(error(404, "404.001.03", "Invalid Access Token").is_dead_token());
        assert!(error(400, "400.003.01", "x").is_dead_token());
        assert!(error(403, "1", "Invalid access token").is_dead_token());
        assert!(reply(401, "").is_dead_token());
        assert!(!error(404, "404.001.01", "Resource not found").is_dead_token());
    }
}
