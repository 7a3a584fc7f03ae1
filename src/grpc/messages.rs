//! The messages of `proto/`, field by field: what a name there has for a number stands here again, and a test with a client
//! that is made from those files compares the two.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct CreateWalletRequest {
    #[prost(string, tag = "1")]
    pub mnemonic: String,
    #[prost(string, tag = "2")]
    pub label: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct CreateWalletResponse {
    #[prost(string, tag = "2")]
    pub node_id: String,
    #[prost(string, tag = "3")]
    pub address: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetBalanceRequest {}

#[derive(Clone, PartialEq, Message)]
pub struct GetBalanceResponse {
    #[prost(uint64, tag = "1")]
    pub confirmed_sats: u64,
    #[prost(uint64, tag = "2")]
    pub lightning_sats: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct NewInvoiceRequest {
    #[prost(uint64, tag = "1")]
    pub amount_sats: u64,
    #[prost(string, tag = "2")]
    pub memo: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct NewInvoiceResponse {
    #[prost(string, tag = "1")]
    pub invoice: String,
    #[prost(string, tag = "2")]
    pub payment_hash: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SendPaymentRequest {
    #[prost(string, tag = "1")]
    pub invoice: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct SendPaymentResponse {
    #[prost(string, tag = "1")]
    pub payment_hash: String,
    #[prost(string, tag = "2")]
    pub status: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProcessPaymentRequest {
    #[prost(string, tag = "1")]
    pub payment_id: String,
    #[prost(string, tag = "2")]
    pub wallet_id: String,
    #[prost(uint64, tag = "3")]
    pub amount_sats: u64,
    #[prost(string, tag = "4")]
    pub invoice: String,
    #[prost(string, tag = "5")]
    pub description: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetPaymentStatusRequest {
    #[prost(string, tag = "1")]
    pub payment_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct ProcessRefundRequest {
    #[prost(string, tag = "1")]
    pub payment_id: String,
    #[prost(uint64, tag = "2")]
    pub amount_sats: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct PaymentStreamRequest {
    #[prost(string, tag = "1")]
    pub wallet_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct PaymentResponse {
    #[prost(string, tag = "1")]
    pub payment_id: String,
    #[prost(string, tag = "2")]
    pub status: String,
    #[prost(string, tag = "3")]
    pub message: String,
    #[prost(uint64, tag = "4")]
    pub amount_sats: u64,
    #[prost(string, tag = "5")]
    pub payment_hash: String,
    #[prost(string, tag = "6")]
    pub timestamp: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct PaymentUpdate {
    #[prost(string, tag = "1")]
    pub payment_id: String,
    #[prost(string, tag = "2")]
    pub status: String,
    #[prost(uint64, tag = "3")]
    pub amount_sats: u64,
    #[prost(string, tag = "4")]
    pub payment_hash: String,
    #[prost(string, tag = "5")]
    pub timestamp: String,
}
