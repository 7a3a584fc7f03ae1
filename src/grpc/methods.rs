//! The methods: who may call, how long one may take, and what the wallet's are answered.

use super::framing::{self, Body};
use super::messages::{
    CreateWalletRequest, CreateWalletResponse, GetBalanceRequest, GetBalanceResponse, NewInvoiceRequest,
    NewInvoiceResponse, PaymentResponse, PaymentUpdate, ProcessPaymentRequest, ProcessRefundRequest,
    SendPaymentRequest, SendPaymentResponse,
};
use super::payments::{payable, Payments};
use super::status::{GrpcCode, Status};
use crate::commands::BEGUN;
use crate::config::Role::Owner;
use crate::hex;
use crate::http::{borne, is_token};
use crate::shop::{Closed, Shop, Site};
use crate::store::{with_change, GrpcState, NewAuditRow, StoreError};
use crate::units::Sats;
use futures_util::stream::Stream;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Request, Response};
use prost::Message;
use std::any::Any;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A call ends after this, whatever its caller allows; what it has begun goes on.
const LONGEST: Duration = Duration::from_secs(60);
/// Streams of payments at a time, of all connections together.
const STREAMS: usize = 32;
const WALLET: &str = "satsconnect.wallet.v1.WalletService";
const PAYMENT: &str = "satsconnect.payment.v1.PaymentService";

/// All others are refused while the key files are sealed.
const MOVE_NO_MONEY: [&str; 4] = ["CreateWallet", "GetBalance", "GetPaymentStatus", "PaymentStream"];

type Done<T> = Pin<Box<dyn Future<Output = Result<T, Status>> + Send>>;
pub(super) type Updates = Pin<Box<dyn Stream<Item = Result<PaymentUpdate, Status>> + Send>>;

/// What calls are answered from.
pub struct Office {
    site: Arc<Site>,
    /// None while the shop is closed.
    payments: Option<Payments>,
    token_file: PathBuf,
    streams: Arc<Semaphore>,
}

impl Office {
    pub fn new(site: Arc<Site>, payments: Option<Payments>, token_file: PathBuf) -> Office {
        Office { site, payments, token_file, streams: Arc::new(Semaphore::new(STREAMS)) }
    }

    fn shop(&self) -> Result<&Shop, Status> {
        let closed = |closed: &Closed| Status::unavailable(format!("closed: {}", closed.code));
        self.site.shop.as_ref().map_err(closed)
    }

    fn payments(&self) -> Result<&Payments, Status> {
        self.shop()?;
        self.payments.as_ref().ok_or_else(|| Status::unavailable("not open yet"))
    }

    async fn balance(&self) -> Result<GetBalanceResponse, Status> {
        let balances = self.shop()?.wallet.balances().await;
        let balances = balances.map_err(|err| Status::unavailable(err.code()))?;
        let sats = balances.into_iter().filter_map(|balance| Sats::try_from(balance.free).ok());
        let confirmed_sats = sats.map(|sats| sats.0).fold(0, u64::saturating_add);
        Ok(GetBalanceResponse { confirmed_sats, lightning_sats: 0 })
    }

    async fn new_invoice(&self, asked: NewInvoiceRequest) -> Result<NewInvoiceResponse, Status> {
        let amount = Sats(asked.amount_sats);
        let made = self.payments()?.new_invoice(amount, asked.memo).await;
        let result = made.as_ref().map_or_else(|status| status.code.noted(), |_| Some("ok"));
        if let Some(result) = result {
            let hash = made.as_ref().map_or("", |made| &made.payment_hash);
            let row = row("NewInvoice", format!("{} sat {hash}", amount.0).trim(), result);
            self.shop()?.audit.ended(row, made.is_ok()).await;
        }
        made
    }

    async fn process(&self, asked: ProcessPaymentRequest) -> Result<PaymentResponse, Status> {
        let target = asked.payment_id.clone();
        let paying = async { self.payments()?.process(asked).await.map(PaymentResponse::from) };
        self.noted(("ProcessPayment", &target), "ok", paying).await
    }

    async fn refund(&self, asked: ProcessRefundRequest) -> Result<PaymentResponse, Status> {
        let target = match asked.amount_sats {
            0 => asked.payment_id.clone(),
            some => format!("{} {some} sat", asked.payment_id),
        };
        let refunding = async { self.payments()?.refund(asked).await.map(PaymentResponse::from) };
        self.noted(("ProcessRefund", &target), BEGUN, refunding).await
    }

    /// Carries a call out, and has what it changes written down, with its first change; what changes nothing, as a question that
    /// is asked again, is no row. `first`: [`BEGUN`] where another row is to tell the end.
    async fn noted<T>(
        &self,
        (what, target): (&str, &str),
        first: &str,
        doing: impl Future<Output = Result<T, Status>> + Send,
    ) -> Result<T, Status> {
        let shop = self.shop()?;
        let (done, is_begun) = with_change(row(what, target, first), Box::pin(doing)).await;
        let end =
            done.as_ref().map_or_else(|status| status.code.noted(), |_| (first == BEGUN).then_some("ok"));
        if let Some(end) = end {
            shop.audit.ended(row(what, target, end), is_begun || done.is_ok()).await;
        }
        done
    }

    async fn send_payment(&self, asked: SendPaymentRequest) -> Result<SendPaymentResponse, Status> {
        let (read, _) = payable(&asked.invoice)?;
        let sending = async { self.payments()?.send(&asked.invoice).await };
        let payment = self.noted(("SendPayment", &hex::encode(&read.1)), "ok", sending).await?;
        let status = match payment.state {
            GrpcState::Pending => "PENDING",
            GrpcState::Failed => "FAILED",
            GrpcState::Completed | GrpcState::Refunding | GrpcState::Refunded => "SUCCEEDED",
        };
        let payment_hash = hex::encode(&payment.order.payment_hash);
        Ok(SendPaymentResponse { payment_hash, status: status.to_owned() })
    }
}

/// Answers one call. `call` is dropped when its answer has been sent, or is not wanted any more.
pub async fn answer(
    office: Arc<Office>,
    request: Request<Incoming>,
    from: IpAddr,
    call: Box<dyn Any + Send>,
) -> Response<Body> {
    if !is_bearer(&office, request.headers()) {
        if let Ok(shop) = &office.site.shop {
            shop.audit.refused(NewAuditRow::of_stranger("a gRPC call", from, "unauthorized"));
        }
        return framing::refused(&Status::new(GrpcCode::Unauthenticated, "a bearer token is needed"));
    }
    let path = request.uri().path().to_owned();
    let named = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    let Some((service, method)) = named.filter(|_| request.method() == Method::POST) else {
        return framing::refused(&unknown());
    };
    if !MOVE_NO_MONEY.contains(&method) && office.site.is_sealed() {
        return framing::refused(&Status::unavailable(StoreError::Sealed.code()));
    }
    match (service, method) {
        (WALLET, "CreateWallet") => {
            unary(request, |_: CreateWalletRequest| Box::pin(async { no_new_wallet() })).await
        }
        (WALLET, "GetBalance") => {
            unary(request, |_: GetBalanceRequest| Box::pin(async move { office.balance().await })).await
        }
        (WALLET, "NewInvoice") => {
            unary(request, |asked| Box::pin(async move { office.new_invoice(asked).await })).await
        }
        (WALLET, "SendPayment") => {
            unary(request, |asked| Box::pin(async move { office.send_payment(asked).await })).await
        }
        (PAYMENT, "ProcessPayment") => {
            unary(request, |asked| Box::pin(async move { office.process(asked).await })).await
        }
        (PAYMENT, "GetPaymentStatus") => {
            unary(request, |asked| {
                Box::pin(async move { office.payments()?.status(asked).await.map(PaymentResponse::from) })
            })
            .await
        }
        (PAYMENT, "ProcessRefund") => {
            unary(request, |asked| Box::pin(async move { office.refund(asked).await })).await
        }
        (PAYMENT, "PaymentStream") => streamed(office, request, call).await,
        _ => framing::refused(&unknown()),
    }
}

/// A row of the audit log. The bearer of the token is an owner.
fn row(what: &str, target: &str, result: &str) -> NewAuditRow {
    NewAuditRow::new("grpc", Owner.as_str(), what, target, result)
}

fn unknown() -> Status {
    Status::new(GrpcCode::Unimplemented, "there is no such method")
}

/// The stream of payments, which holds its place until it ends.
async fn streamed(
    office: Arc<Office>,
    request: Request<Incoming>,
    call: Box<dyn Any + Send>,
) -> Response<Body> {
    let Ok(place) = office.streams.clone().try_acquire_owned() else {
        return framing::refused(&Status::resource_exhausted("there are too many streams"));
    };
    let kept: Box<dyn Any + Send> = Box::new((place, call));
    let opening = async {
        let asked = framing::read(request.into_body()).await?;
        office.payments()?.stream(asked, kept).await
    };
    match tokio::time::timeout(LONGEST, opening).await {
        Ok(Ok(updates)) => framing::many(updates),
        Ok(Err(status)) => framing::refused(&status),
        Err(_) => framing::refused(&too_late()),
    }
}

fn no_new_wallet() -> Result<CreateWalletResponse, Status> {
    let message = "the router makes its wallet by itself, and takes no words over the wire";
    Err(Status::failed_precondition(message))
}

/// Whether the caller shows the token.
fn is_bearer(office: &Office, headers: &HeaderMap) -> bool {
    is_token(&office.token_file, borne(headers).unwrap_or_default())
}

/// Answers a call that has one message, in the time that its caller has.
async fn unary<Q, A>(request: Request<Incoming>, answer: impl FnOnce(Q) -> Done<A> + Send) -> Response<Body>
where
    Q: Message + Default,
    A: Message + 'static,
{
    let limit = caller_waits(request.headers()).map_or(LONGEST, |time| time.min(LONGEST));
    let answering = async { answer(framing::read(request.into_body()).await?).await };
    framing::one(tokio::time::timeout(limit, answering).await.unwrap_or_else(|_| Err(too_late())))
}

fn too_late() -> Status {
    Status::new(GrpcCode::DeadlineExceeded, "not done in time; what was begun goes on")
}

/// `grpc-timeout`: up to eight digits, and a unit.
fn caller_waits(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = number.parse().ok().filter(|_| number.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(number.saturating_mul(3600))),
        "M" => Some(Duration::from_secs(number.saturating_mul(60))),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_time_is_read_as_the_protocol_writes_it() {
        let waits = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            caller_waits(&headers)
        };
        for (text, time) in
            [("1H", 3_600_000), ("2M", 120_000), ("3S", 3000), ("250m", 250), ("99999999u", 99_999)]
        {
            assert_eq!(waits(text).map(|time| time.as_millis()), Some(time), "{text}");
        }
        for bad in ["", "S", "1", "1x", "-1S", "123456789S", "1.5S"] {
            assert_eq!(waits(bad), None, "{bad}");
        }
    }
}
