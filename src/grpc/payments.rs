//! Payments from the takings, each once by its id: written down, then paid by a mint that holds our ecash, then followed to
//! its end, also after a restart. Who listens hears of every change.

use super::messages::{
    GetPaymentStatusRequest, NewInvoiceResponse, PaymentResponse, PaymentStreamRequest, PaymentUpdate,
    ProcessPaymentRequest, ProcessRefundRequest,
};
use super::methods::Updates;
use super::status::{GrpcCode, Status};
use crate::bolt11::Invoice;
use crate::clock::rfc3339;
use crate::config::{Config, LightningKind};
use crate::ecash::wallet::{Melted, Wallet, WalletError};
use crate::hex;
use crate::lightning::{BackendAnswer, Lightning as _, Melt, Outcome, PaymentOrder, PaymentRef};
use crate::pasted;
use crate::sale::balance::BalanceError;
use crate::shop::Shop;
use crate::store::{BookAccount, GrpcBegun, GrpcOrder, GrpcPayment, GrpcState, NewMove, Store, StoreError};
use crate::task;
use crate::units::{Msats, Sats, ALL_SATS};
use futures_util::stream::{self, StreamExt};
use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

/// The longest id, and name of whose payment it is (bytes).
const MAX_NAME: usize = 128;
const MAX_DESCRIPTION: usize = 1024;
const MAX_MEMO: usize = 200;
/// Whom an invoice for the takings credits: no account.
const TAKINGS: &str = "";
/// What the name of a payment begins with that has no id.
const BY_INVOICE: &str = "invoice:";
/// A caller is told what is known after this; most mints have paid by then.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between looks at what became of a payment: at first, and at most.
const FIRST: Duration = Duration::from_secs(1);
const SLOWEST: Duration = Duration::from_secs(30);
/// Changes that a listener may be behind.
const BEHIND: usize = 256;

/// The payments of this router; clones share everything.
#[derive(Clone)]
pub struct Payments(Arc<Shared>);

struct Shared {
    shop: Shop,
    melt: Melt,
    news: broadcast::Sender<GrpcPayment>,
}

impl Payments {
    /// Takes up what the last process left without an end.
    pub fn start(shop: &Shop) -> Payments {
        let (news, _) = broadcast::channel(BEHIND);
        let payments =
            Payments(Arc::new(Shared { shop: shop.clone(), melt: Melt::new(shop.wallet.clone()), news }));
        let resuming = payments.clone();
        task::spawn(async move {
            if let Err(err) = resuming.resume().await {
                log::error!("gRPC: what was open cannot be read: {err}");
            }
        });
        payments
    }

    async fn resume(&self) -> Result<(), StoreError> {
        let pending = self.store().grpc_payments(GrpcState::Pending).await?;
        pending.into_iter().for_each(|payment| self.take_up(payment));
        for payment in self.store().grpc_payments(GrpcState::Refunding).await? {
            if let Err(status) = self.pay_back(payment).await {
                log::error!("gRPC: a refund: {}", status.message);
            }
        }
        self.wallet().resume_topups(self.0.shop.terms.config().main.invoice_grace).await
    }

    fn store(&self) -> &Store {
        &self.0.shop.store
    }

    fn wallet(&self) -> &Wallet {
        &self.0.shop.wallet
    }

    /// Pays an invoice under an id.
    pub async fn process(&self, asked: ProcessPaymentRequest) -> Result<GrpcPayment, Status> {
        let id = named(&asked.payment_id, "payment_id")?;
        if asked.payment_id.starts_with(BY_INVOICE) {
            return Err(Status::invalid_argument(format!("payment_id must not begin with '{BY_INVOICE}'")));
        }
        if asked.wallet_id.len() > MAX_NAME || asked.description.len() > MAX_DESCRIPTION {
            return Err(Status::invalid_argument("wallet_id or description is too long"));
        }
        let known = self.store().grpc_payment(id.clone()).await.map_err(unavailable)?;
        let (invoice, amount) = payable(&asked.invoice)?;
        if asked.amount_sats != 0 && asked.amount_sats != amount.0 {
            let message = if known.is_some() { taken() } else { other_amount(amount) };
            return Err(message);
        }
        let order = GrpcOrder {
            id,
            wallet: asked.wallet_id,
            amount,
            payment_hash: invoice.1,
            invoice: invoice.0,
            description: asked.description,
        };
        if known.is_none() {
            self.may_be_paid(&asked.invoice, &order).await?;
        }
        self.pay(order, false).await
    }

    /// Pays an invoice, however often it is asked for.
    pub async fn send(&self, invoice: &str) -> Result<GrpcPayment, Status> {
        let (read, amount) = payable(invoice)?;
        let order = GrpcOrder {
            id: format!("{BY_INVOICE}{}", hex::encode(&read.1)),
            wallet: String::new(),
            amount,
            invoice: read.0,
            payment_hash: read.1,
            description: String::new(),
        };
        self.pay(order, true).await
    }

    pub async fn status(&self, asked: GetPaymentStatusRequest) -> Result<GrpcPayment, Status> {
        let id = named(&asked.payment_id, "payment_id")?;
        let known = self.store().grpc_payment(id).await.map_err(unavailable)?;
        known.ok_or_else(|| Status::new(GrpcCode::NotFound, "there is no such payment"))
    }

    /// An invoice that tops the takings up.
    pub async fn new_invoice(&self, amount: Sats, memo: String) -> Result<NewInvoiceResponse, Status> {
        if !(1..=ALL_SATS).contains(&amount.0) {
            return Err(Status::invalid_argument(
                "amount_sats is 1 or more: a mint's invoice names its amount",
            ));
        }
        if memo.len() > MAX_MEMO || memo.contains(char::is_control) {
            return Err(Status::invalid_argument(format!("memo is at most {MAX_MEMO} bytes of text")));
        }
        if !self.store().room_for_sales() {
            return Err(Status::unavailable("less than 1 MiB free for the store"));
        }
        let config: Arc<Config> = self.0.shop.terms.config();
        let (grace, mut last) = (config.main.invoice_grace, Status::unavailable("no mint is configured"));
        for mint in &config.mints {
            let (wallet, mint, memo) = (self.wallet().clone(), mint.url.clone(), memo.clone());
            // An invoice that the mint has made is watched, if the caller goes away.
            let asking = task::start(async move { wallet.topup(TAKINGS, &mint, amount, memo, grace).await });
            match asking.await.map_err(|_| Status::unavailable("stopping"))? {
                Ok(row) => {
                    return Ok(NewInvoiceResponse { invoice: row.invoice, payment_hash: row.payment_hash })
                }
                Err(WalletError::Refused(_)) => {
                    return Err(Status::resource_exhausted("too many invoices wait for their payment"))
                }
                Err(error) => last = Status::unavailable(error.to_string()),
            }
        }
        Err(last)
    }

    /// Pays a completed payment of an account back into its balance, once.
    pub async fn refund(&self, asked: ProcessRefundRequest) -> Result<GrpcPayment, Status> {
        let id = named(&asked.payment_id, "payment_id")?;
        let known = self.store().grpc_payment(id.clone()).await.map_err(unavailable)?;
        let payment = known.ok_or_else(|| Status::new(GrpcCode::NotFound, "there is no such payment"))?;
        let amount = match asked.amount_sats {
            0 => payment.order.amount,
            some => Sats(some),
        };
        let wrong =
            || Status::failed_precondition("a COMPLETED payment is paid back, once and at most its amount");
        if payment.state != GrpcState::Completed || amount > payment.order.amount {
            return Err(wrong());
        }
        if !self.store().grpc_knows(payment.order.wallet.clone()).await.map_err(unavailable)? {
            return Err(Status::failed_precondition("the payment's wallet_id is no account here"));
        }
        let begun = self.store().grpc_refund(id, amount).await.map_err(unavailable)?.ok_or_else(wrong)?;
        let payments = self.clone();
        let paying = task::start(async move { payments.pay_back(begun).await });
        paying.await.map_err(|_| Status::unavailable("stopping"))?
    }

    /// Brings a refund that is on record to its end. The balance is credited once by the payment's id.
    async fn pay_back(&self, payment: GrpcPayment) -> Result<GrpcPayment, Status> {
        let id = payment.order.id.clone();
        let new = NewMove {
            account: payment.order.wallet.clone(),
            reference: format!("refund:{id}"),
            kind: "refund",
            amount: payment.refunded.to_msats().unwrap_or_default(),
            detail: String::new(),
        };
        let funded = self.0.shop.balances.fund(new, BookAccount::EcashFloat).await;
        // Nothing was credited where the takings are too small; anything else is tried again by the next start.
        let is_done = match &funded {
            Ok(_) => true,
            Err(BalanceError::FloatTooSmall) => false,
            Err(error) => return Err(Status::unavailable(error.to_string())),
        };
        let ended = self.store().grpc_refunded(id, is_done).await.map_err(unavailable)?;
        let ended = ended.ok_or_else(|| Status::unavailable("the refund is not written"))?;
        if let Err(error) = funded {
            return Err(Status::failed_precondition(error.to_string()));
        }
        log::info!("gRPC: {} sat of payment {} are paid back", ended.refunded, ended.order.id);
        self.tell(&ended);
        Ok(ended)
    }

    /// What is pending now, then every change.
    pub async fn stream(
        &self,
        asked: PaymentStreamRequest,
        kept: Box<dyn Any + Send>,
    ) -> Result<Updates, Status> {
        // Before the payments are read: what changes in between is told twice rather than not at all.
        let news = self.0.news.subscribe();
        let open = self.store().grpc_payments(GrpcState::Pending).await.map_err(unavailable)?;
        let is_asked = move |payment: &GrpcPayment| {
            asked.wallet_id.is_empty() || payment.order.wallet == asked.wallet_id
        };
        let state = Some((VecDeque::from(open), news, kept));
        let all = stream::unfold(state, |state| async move {
            let (mut open, mut news, kept) = state?;
            if let Some(payment) = open.pop_front() {
                return Some((Ok(payment), Some((open, news, kept))));
            }
            match news.recv().await {
                Ok(payment) => Some((Ok(payment), Some((open, news, kept)))),
                Err(RecvError::Lagged(_)) => {
                    Some((Err(Status::new(GrpcCode::DataLoss, "changes were missed: call again")), None))
                }
                Err(RecvError::Closed) => None,
            }
        });
        let mine = all.filter_map(move |told| {
            let told = match told {
                Ok(payment) if !is_asked(&payment) => None,
                told => Some(told.map(PaymentUpdate::from)),
            };
            std::future::ready(told)
        });
        Ok(Box::pin(mine))
    }

    /// Nothing is begun that cannot be paid, or that somebody else pays.
    async fn may_be_paid(&self, invoice: &str, order: &GrpcOrder) -> Result<(), Status> {
        let read =
            Invoice::parse(&pasted::one(invoice)).map_err(|err| Status::invalid_argument(err.to_string()))?;
        if read.payee().is_none() {
            return Err(Status::invalid_argument("the invoice is signed by nobody"));
        }
        if self.store().wall_is_plausible() && read.expires_at() <= self.store().wall() {
            return Err(Status::failed_precondition("the invoice has expired"));
        }
        // Of a card, for example.
        match self.wallet().melted(&hex::encode(&order.payment_hash)).await.map_err(unavailable)? {
            Some(Melted::Paid { .. } | Melted::Unknown) => Err(taken()),
            Some(Melted::Failed(_)) | None => Ok(()),
        }
    }

    /// Writes an order down and has it paid; answers when it is over, or after [`PATIENCE`] as it is then.
    async fn pay(&self, order: GrpcOrder, again: bool) -> Result<GrpcPayment, Status> {
        if !self.store().room_for_sales() {
            return Err(Status::unavailable("less than 1 MiB free for the store"));
        }
        let payment = match self.store().grpc_begin(order, again).await.map_err(unavailable)? {
            GrpcBegun::New(payment) => payment,
            GrpcBegun::Known(payment) => return Ok(payment),
            GrpcBegun::Taken => return Err(taken()),
            GrpcBegun::Full => return Err(Status::resource_exhausted("there are too many payments")),
        };
        self.tell(&payment);
        let (payments, pending) = (self.clone(), payment.clone());
        let paying = task::start(async move {
            let order = &pending.order;
            let amount = order.amount.to_msats().unwrap_or_default();
            let order = PaymentOrder {
                invoice: order.invoice.clone(),
                payment_hash: order.payment_hash,
                amount,
                fee_limit: payments.fee_limit(),
            };
            let answer = payments.0.melt.pay(&order).await;
            payments.follow(pending, Some(answer)).await
        });
        match tokio::time::timeout(PATIENCE, paying).await {
            Ok(Ok(Some(ended))) => Ok(ended),
            _ => Ok(payment),
        }
    }

    fn take_up(&self, payment: GrpcPayment) {
        let payments = self.clone();
        task::spawn(async move { drop(payments.follow(payment, None).await) });
    }

    /// Looks a payment up until it has an end. `None`: the daemon stops.
    async fn follow(&self, payment: GrpcPayment, mut answer: Option<BackendAnswer>) -> Option<GrpcPayment> {
        let order = &payment.order;
        let reference =
            PaymentRef { invoice: order.invoice.clone(), payment_hash: order.payment_hash, reference: None };
        let mut wait = FIRST;
        loop {
            let heard = match answer.take() {
                Some(answer) => answer,
                None => self.0.melt.lookup(&reference).await,
            };
            let ended = match heard.outcome {
                Outcome::Paid { .. } => self.end(&order.id, None).await,
                Outcome::Failed(why) | Outcome::Refused(why) => self.end(&order.id, Some(why)).await,
                Outcome::Absent | Outcome::Unknown(_) => Ok(None),
            };
            match ended {
                Ok(Some(payment)) => return Some(payment),
                Err(StoreError::Closed) => return None,
                Ok(None) => {}
                Err(err) => log::error!("gRPC: the end of a payment is not written: {err}"),
            }
            tokio::time::sleep(wait).await;
            wait = wait.saturating_mul(2).min(SLOWEST);
        }
    }

    async fn end(&self, id: &str, failed: Option<String>) -> Result<Option<GrpcPayment>, StoreError> {
        match &failed {
            None => log::info!("gRPC: payment {id} is paid"),
            Some(why) => log::info!("gRPC: payment {id} failed: {why}"),
        }
        let ended = self.store().grpc_end(id.to_owned(), failed).await?;
        if let Some(payment) = &ended {
            self.tell(payment);
            return Ok(ended);
        }
        self.store().grpc_payment(id.to_owned()).await
    }

    /// Most that a payment may cost beside its amount: as for what cards have paid from the takings.
    fn fee_limit(&self) -> Msats {
        let config: Arc<Config> = self.0.shop.terms.config();
        let sections = &config.lightning;
        let own = sections.iter().find(|section| section.kind == LightningKind::Melt);
        own.or(sections.first()).map(|section| section.fee_limit).unwrap_or_default()
    }

    fn tell(&self, payment: &GrpcPayment) {
        // Nobody may be listening.
        let _ = self.0.news.send(payment.clone());
    }
}

/// The invoice in lower case with its payment hash, and its amount, in whole satoshis.
pub(super) fn payable(text: &str) -> Result<((String, [u8; 32]), Sats), Status> {
    let text = pasted::one(text);
    let invoice = Invoice::parse(&text).map_err(|err| Status::invalid_argument(err.to_string()))?;
    let amount = invoice.amount().map(|amount| Sats(amount.0.div_ceil(1000)));
    let amount = amount.filter(|amount| (1..=ALL_SATS).contains(&amount.0));
    let amount =
        amount.ok_or_else(|| Status::invalid_argument("the invoice names no amount that can be paid"))?;
    Ok(((text.to_ascii_lowercase(), invoice.payment_hash()), amount))
}

fn named(id: &str, field: &str) -> Result<String, Status> {
    match !id.is_empty() && id.len() <= MAX_NAME && !id.chars().any(char::is_control) {
        true => Ok(id.to_owned()),
        false => Err(Status::invalid_argument(format!("{field} is 1 to {MAX_NAME} bytes of text"))),
    }
}

fn taken() -> Status {
    Status::new(
        GrpcCode::AlreadyExists,
        "this payment_id is another payment's, or this invoice is paid by another",
    )
}

fn other_amount(amount: Sats) -> Status {
    Status::invalid_argument(format!("amount_sats is not what the invoice says, which is {amount}"))
}

fn unavailable(err: StoreError) -> Status {
    log::error!("gRPC: {err}");
    Status::unavailable(err.code())
}

fn told(state: GrpcState) -> &'static str {
    match state {
        GrpcState::Pending => "PENDING",
        GrpcState::Completed | GrpcState::Refunding => "COMPLETED",
        GrpcState::Failed => "FAILED",
        GrpcState::Refunded => "REFUNDED",
    }
}

impl From<GrpcPayment> for PaymentResponse {
    fn from(payment: GrpcPayment) -> PaymentResponse {
        let amount = match payment.state {
            GrpcState::Refunded => payment.refunded,
            _ => payment.order.amount,
        };
        PaymentResponse {
            payment_id: payment.order.id,
            status: told(payment.state).to_owned(),
            message: payment.message,
            amount_sats: amount.0,
            payment_hash: hex::encode(&payment.order.payment_hash),
            timestamp: rfc3339(payment.at),
        }
    }
}

impl From<GrpcPayment> for PaymentUpdate {
    fn from(payment: GrpcPayment) -> PaymentUpdate {
        let PaymentResponse { payment_id, status, amount_sats, payment_hash, timestamp, .. } = payment.into();
        PaymentUpdate { payment_id, status, amount_sats, payment_hash, timestamp }
    }
}
