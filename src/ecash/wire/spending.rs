//! Spending: proofs on their way to a mint, and melt quotes (NUT-05, NUT-08, NUT-23).

use super::{parse, QuoteId, SignatureText};
use crate::ecash::error::EcashError;
use crate::ecash::outputs::{BlindSignature, Proof};
use crate::json::json;
use crate::units::{Sats, UnixSeconds};
use serde::Deserialize;
use serde_json::Value;

/// The longest preimage text that is kept: 32 bytes as hex.
const PREIMAGE: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeltState {
    Unpaid,
    /// The mint is paying.
    Pending,
    Paid,
}

/// What a mint wants for paying an invoice, and how far it has come.
#[derive(Clone, Debug)]
pub struct MeltQuote {
    pub id: QuoteId,
    pub amount: Sats,
    /// What the Lightning payment may cost at most; what is left of it comes back as change.
    pub fee_reserve: Sats,
    pub state: MeltState,
    /// On the mint's clock.
    pub expiry: Option<UnixSeconds>,
    pub(in crate::ecash) unit: Option<String>,
    /// 64 hex digits, where the mint gives it.
    pub preimage: Option<String>,
    pub(in crate::ecash) change: Vec<BlindSignature>,
}

/// Without the DLEQ evidence: its blinding factor would let the mint link a proof to its making.
pub(in crate::ecash) fn inputs_json(proofs: &[Proof]) -> Value {
    let one = |proof: &Proof| {
        let mut input = json!({
            "amount": proof.amount.0,
            "id": proof.keyset.to_string(),
            "secret": proof.secret.as_str(),
            "C": proof.c.to_string(),
        });
        if let Some(witness) = &proof.witness {
            input["witness"] = witness.as_str().into();
        }
        input
    };
    proofs.iter().map(one).collect()
}

pub(in crate::ecash) fn melt_quote(body: &[u8]) -> Result<MeltQuote, EcashError> {
    let text: MeltText = parse(body)?;
    let state = match (text.state.as_deref(), text.paid) {
        (Some("UNPAID"), _) | (None, Some(false)) => MeltState::Unpaid,
        (Some("PENDING"), _) => MeltState::Pending,
        (Some("PAID"), _) | (None, Some(true)) => MeltState::Paid,
        _ => return Err(EcashError::Malformed("the quote has no known state")),
    };
    let is_preimage = |text: &String| text.len() == PREIMAGE && text.bytes().all(|b| b.is_ascii_hexdigit());
    let change = text.change.unwrap_or_default().into_iter().map(SignatureText::signature);
    Ok(MeltQuote {
        id: QuoteId::parse(&text.quote).ok_or(EcashError::Malformed("the quote id is not usable"))?,
        amount: Sats(text.amount),
        fee_reserve: Sats(text.fee_reserve),
        state,
        expiry: text.expiry.as_u64().filter(|expiry| *expiry > 0).map(UnixSeconds),
        unit: text.unit,
        preimage: text.payment_preimage.filter(is_preimage),
        change: change.collect::<Result<_, _>>()?,
    })
}

#[derive(Deserialize)]
struct MeltText {
    quote: String,
    amount: u64,
    #[serde(default)]
    fee_reserve: u64,
    unit: Option<String>,
    state: Option<String>,
    paid: Option<bool>,
    #[serde(default)]
    expiry: Value,
    payment_preimage: Option<String>,
    change: Option<Vec<SignatureText>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecash::error::Lie;

    #[test]
    fn melt_quotes_of_real_mints_are_read() {
        let fresh =
            br#"{"quote":"q1","amount":100,"unit":"sat","request":"lnbc1u1","fee_reserve":2,"paid":false,
            "state":"UNPAID","expiry":1795222222,"payment_preimage":null,"change":null}"#;
        let quote = melt_quote(fresh).unwrap();
        assert_eq!((quote.amount, quote.fee_reserve, quote.state), (Sats(100), Sats(2), MeltState::Unpaid));
        assert_eq!((quote.expiry, quote.preimage), (Some(UnixSeconds(1_795_222_222)), None));
        let id = "009a1f293253e41e";
        let c = "02a9acc1e48c25eeeb9289b5031cc57da9fe72f3fe2861d264bdc074209b107ba2";
        let paid = format!(
            r#"{{"quote":"q1","amount":100,"fee_reserve":2,"state":"PAID","expiry":null,
                "payment_preimage":"{}","change":[{{"id":"{id}","amount":16,"C_":"{c}"}}]}}"#,
            "ab".repeat(32)
        );
        let quote = melt_quote(paid.as_bytes()).unwrap();
        assert_eq!((quote.state, quote.change.len(), quote.expiry), (MeltState::Paid, 1, None));
        assert_eq!(quote.preimage, Some("ab".repeat(32)));
        let old = melt_quote(br#"{"quote":"q1","amount":1,"fee_reserve":0,"paid":true}"#).unwrap();
        assert_eq!(old.state, MeltState::Paid);
    }

    #[test]
    fn melt_quotes_without_a_known_state_or_with_nonsense_are_refused() {
        for bad in [
            r#"{"quote":"q1","amount":1,"fee_reserve":0}"#,
            r#"{"quote":"q1","amount":1,"fee_reserve":0,"state":"DONE"}"#,
            r#"{"quote":"../q","amount":1,"fee_reserve":0,"state":"PAID"}"#,
            r#"{"quote":"q1","amount":-1,"fee_reserve":0,"state":"PAID"}"#,
        ] {
            assert!(matches!(melt_quote(bad.as_bytes()), Err(EcashError::Malformed(_))), "{bad}");
        }
        let change =
            r#"{"quote":"q1","amount":1,"state":"PAID","change":[{"id":"xx","amount":1,"C_":"02"}]}"#;
        assert_eq!(melt_quote(change.as_bytes()).unwrap_err(), EcashError::Lied(Lie::SignatureTerms));
        let odd = r#"{"quote":"q1","amount":1,"state":"PAID","payment_preimage":"not hex"}"#;
        assert_eq!(melt_quote(odd.as_bytes()).unwrap().preimage, None);
    }
}
