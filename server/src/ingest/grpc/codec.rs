//! A codec that gives requests as the bytes of their message, for services without generated code.
//! `ingest::grpc` and `api::tempo::streaming` serve theirs with it.

use std::marker::PhantomData;

use axum::body::Bytes;
use prost::Message;
use prost::bytes::Buf as _;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Requests are bytes, answers are `A`.
#[derive(Debug)]
pub struct BytesCodec<A>(PhantomData<A>);

impl<A> Default for BytesCodec<A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: Message + 'static> Codec for BytesCodec<A> {
    type Encode = A;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self::default()
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<A: Message> Encoder for BytesCodec<A> {
    type Item = A;
    type Error = Status;

    fn encode(&mut self, answer: A, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        answer
            .encode(out)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl<A> Decoder for BytesCodec<A> {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
