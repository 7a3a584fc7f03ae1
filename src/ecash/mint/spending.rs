//! Calls that spend proofs: swap (NUT-03) and melt (NUT-05, NUT-08). What they spend, and the outputs they ask
//! for, are durable before they are made.

use super::{computed, Mint, Path, Urgency, UNIT};
use crate::ecash::error::{EcashError, Lie};
use crate::ecash::outputs::{Outputs, Proof};
use crate::ecash::wire::spending::MeltQuote;
use crate::ecash::wire::QuoteId;
use std::sync::Arc;

impl Mint {
    /// Trades proofs for new ones. On `KeysetInactive` and `Unbalanced` the mint's terms are read anew by the
    /// next call that needs them.
    pub async fn swap(
        &self,
        inputs: Arc<Vec<Proof>>,
        outputs: Arc<Outputs>,
        urgency: Urgency,
    ) -> Result<Vec<Proof>, EcashError> {
        let keyset = self.keyset(outputs.keyset(), urgency).await?;
        let client = self.client();
        let outcome = self
            .call(Path::Swap, urgency, async move {
                let signatures = client.swap(&inputs, &outputs).await?;
                computed(move || outputs.unblind(&keyset, &signatures)).await
            })
            .await;
        self.noticed(outcome)
    }

    /// What the mint wants for paying this invoice; refuses an answer in another unit.
    pub async fn melt_quote(&self, invoice: String, urgency: Urgency) -> Result<MeltQuote, EcashError> {
        let client = self.client();
        let asked = self.call(Path::NewMelt, urgency, async move { client.melt_quote(&invoice).await });
        let quote = asked.await?;
        match quote.unit.as_deref() {
            None | Some(UNIT) => Ok(quote),
            Some(_) => Err(self.failed(Lie::QuoteAmount.into())),
        }
    }

    pub async fn melt_state(&self, quote: &QuoteId, urgency: Urgency) -> Result<MeltQuote, EcashError> {
        let (client, id) = (self.client(), quote.clone());
        self.call(Path::MeltState(id.clone()), urgency, async move { client.melt_state(&id).await }).await
    }

    /// Has the mint pay. An answer is no success: read its state, then its change with [`Mint::change`].
    pub async fn melt(
        &self,
        quote: &QuoteId,
        inputs: Arc<Vec<Proof>>,
        blanks: Option<Arc<Outputs>>,
        urgency: Urgency,
    ) -> Result<MeltQuote, EcashError> {
        let (client, quote) = (self.client(), quote.clone());
        let paying = async move { client.melt(&quote, &inputs, blanks.as_deref()).await };
        self.noticed(self.call(Path::Melt, urgency, paying).await)
    }

    /// The change that came with a paid melt quote (NUT-08).
    pub async fn change(
        &self,
        quote: &MeltQuote,
        blanks: Arc<Outputs>,
        urgency: Urgency,
    ) -> Result<Vec<Proof>, EcashError> {
        let keyset = self.keyset(blanks.keyset(), urgency).await?;
        let signatures = quote.change.clone();
        computed(move || blanks.unblind_first(&keyset, &signatures)).await
    }
}
