//! Makes one call with tonic and prints how it went: see ../../client.py for what goes in and out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{KeyAndValueRef, MetadataKey, MetadataMap};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_types::StatusExt;

mod shapes {
    tonic::include_proto!("meshserve.tests.v1");
}
use shapes::Note;
use shapes::shapes_service_client::ShapesServiceClient;

const NO_LIMIT: usize = 1 << 30;

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default)]
struct NoteJson {
    text: String,
    number: i32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Order {
    address: String,
    method: String,
    metadata: BTreeMap<String, String>,
    requests: Vec<NoteJson>,
    service: String,
    timeout_ms: u64,
    cancel_after: usize,
    gzip: bool,
}

#[derive(Default, Serialize)]
struct Outcome {
    code: i32,
    message: String,
    replies: Vec<NoteJson>,
    health: Vec<String>,
    head: BTreeMap<String, String>,
    trailers: BTreeMap<String, String>,
    details: Vec<Value>,
}

/// How a call ended that did not end well: with a status, or because it has what it wanted.
enum End {
    Failed(Status),
    Left,
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        End::Failed(status)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let argument = std::env::args().nth(1).expect("the order is the argument");
    let order: Order = serde_json::from_str(&argument).expect("the order is JSON");
    let endpoint = Endpoint::from_shared(format!("http://{}", order.address)).expect("an address");
    let channel = endpoint.connect().await.expect("a mesh that listens");
    let mut outcome = Outcome::default();
    if let Err(end) = call(&order, channel, &mut outcome).await {
        match end {
            End::Failed(status) => outcome.fail(&status),
            End::Left => outcome.code = Code::Cancelled as i32,
        }
    }
    println!(
        "{}",
        serde_json::to_string(&outcome).expect("an outcome is JSON")
    );
}

async fn call(order: &Order, channel: Channel, outcome: &mut Outcome) -> Result<(), End> {
    let mut stub = ShapesServiceClient::new(channel.clone())
        .max_decoding_message_size(NO_LIMIT)
        .max_encoding_message_size(NO_LIMIT);
    if order.gzip {
        stub = stub.send_compressed(CompressionEncoding::Gzip);
    }
    let mut health = HealthClient::new(channel);
    let question = HealthCheckRequest {
        service: order.service.clone(),
    };
    let all = tokio_stream::iter(order.requests.iter().map(note).collect::<Vec<_>>());
    match order.method.as_str() {
        "Unary" => {
            let reply = stub.unary(order.request(note(&order.requests[0]))).await?;
            outcome.take_one(reply);
        }
        "Down" => {
            let reply = stub.down(order.request(note(&order.requests[0]))).await?;
            outcome.head = plain(reply.metadata());
            outcome.take_all(order, reply.into_inner(), |_| ()).await?;
        }
        "Up" => {
            let reply = stub.up(order.request(all)).await?;
            outcome.take_one(reply);
        }
        "Both" => {
            // Sends a request, waits for its reply, and sends the next.
            let (requests, taken) = mpsc::unbounded_channel();
            let mut waiting = order
                .requests
                .iter()
                .map(note)
                .collect::<Vec<_>>()
                .into_iter();
            let mut requests = waiting.next().map(|first| {
                requests.send(first).expect("the call takes requests");
                requests
            });
            let reply = stub
                .both(order.request(UnboundedReceiverStream::new(taken)))
                .await?;
            outcome.head = plain(reply.metadata());
            let next = |_: &Note| match waiting.next() {
                Some(next) => drop(requests.as_ref().map(|open| open.send(next))),
                None => requests = None,
            };
            outcome.take_all(order, reply.into_inner(), next).await?;
        }
        "Check" => {
            let reply = health.check(order.request(question)).await?;
            outcome.take_health(reply.get_ref());
        }
        "Watch" => {
            let mut stream = health.watch(order.request(question)).await?.into_inner();
            while let Some(reply) = stream.message().await? {
                outcome.take_health(&reply);
                leave_when_wanted(order, outcome.health.len())?;
            }
        }
        other => panic!("no method {other}"),
    }
    Ok(())
}

fn note(request: &NoteJson) -> Note {
    Note {
        text: request.text.clone(),
        number: request.number,
    }
}

/// A call is cancelled by dropping it.
fn leave_when_wanted(order: &Order, count: usize) -> Result<(), End> {
    if count == order.cancel_after {
        Err(End::Left)
    } else {
        Ok(())
    }
}

impl Order {
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for (key, value) in &self.metadata {
            let key = MetadataKey::from_bytes(key.as_bytes()).expect("a key");
            request
                .metadata_mut()
                .insert(key, value.parse().expect("a value"));
        }
        if self.timeout_ms > 0 {
            request.set_timeout(Duration::from_millis(self.timeout_ms));
        }
        request
    }
}

impl Outcome {
    /// The one reply of a call; tonic has its initial and trailing metadata in one map.
    fn take_one(&mut self, reply: tonic::Response<Note>) {
        self.head = plain(reply.metadata());
        self.trailers = self.head.clone();
        self.take(reply.into_inner());
    }

    async fn take_all(
        &mut self,
        order: &Order,
        mut stream: Streaming<Note>,
        mut after_each: impl FnMut(&Note),
    ) -> Result<(), End> {
        while let Some(reply) = stream.message().await? {
            after_each(&reply);
            self.take(reply);
            leave_when_wanted(order, self.replies.len())?;
        }
        if let Some(trailers) = stream.trailers().await? {
            self.trailers = plain(&trailers);
        }
        Ok(())
    }

    fn take(&mut self, reply: Note) {
        self.replies.push(NoteJson {
            text: reply.text,
            number: reply.number,
        });
    }

    fn take_health(&mut self, reply: &HealthCheckResponse) {
        let status = ServingStatus::try_from(reply.status).expect("a status of this version");
        self.health.push(status.as_str_name().to_owned());
    }

    fn fail(&mut self, status: &Status) {
        // What tonic says when its own clock is the first to end a call; for everybody else that is a deadline.
        let own_clock = status.code() == Code::Cancelled && status.message() == "Timeout expired";
        self.code = if own_clock {
            Code::DeadlineExceeded
        } else {
            status.code()
        } as i32;
        self.message = status.message().to_owned();
        self.trailers = plain(status.metadata());
        let details = status.get_error_details();
        if let Some(info) = details.error_info() {
            self.details.push(json!({
                "type": "ErrorInfo", "reason": info.reason, "domain": info.domain, "metadata": info.metadata,
            }));
        }
        if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
            self.details
                .push(json!({"type": "RetryInfo", "retry_delay_ms": delay.as_millis() as u64}));
        }
        if let Some(bad) = details.bad_request() {
            let fields: Vec<_> = bad
                .field_violations
                .iter()
                .map(|violation| &violation.field)
                .collect();
            self.details
                .push(json!({"type": "BadRequest", "fields": fields}));
        }
    }
}

/// One value for each key, in hexadecimal where it is binary.
fn plain(received: &MetadataMap) -> BTreeMap<String, String> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let both = received.iter().map(|entry| match entry {
        KeyAndValueRef::Ascii(key, value) => (
            key.to_string(),
            value.to_str().unwrap_or_default().to_owned(),
        ),
        KeyAndValueRef::Binary(key, value) => {
            (key.to_string(), hex(&value.to_bytes().unwrap_or_default()))
        }
    });
    both.collect()
}
