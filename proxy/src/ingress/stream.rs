//! One stream of HTTP/2: a request, its answer, and of an extended CONNECT (RFC 8441) the tunnel that comes of it. A task of
//! its own serves it.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, DATE, EXPECT, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body;
use tokio::sync::oneshot;

use crate::body_budget::UnreadContent;
use crate::client_connection::ClientConnection;
use crate::client_content::ClientContent;
use crate::clock::http_date;
use crate::exchange::{Received, serve};
use crate::framing::HeadFault;
use crate::grpc;
use crate::http2::{Http2Content, Outgoing, StreamTunnel, Unsent};
use crate::ingress::frames::Answered;
use crate::ingress::reply::Reply;
use crate::ingress::streams::Streams;
use crate::ingress::unwritten::Unwritten;
use crate::node::Worker;
use crate::response_body::ResponseBody;
use crate::tunnel::ClientSide;

/// What the streams of one connection share. The connection's task and theirs have it, on the worker's thread.
pub(super) struct Shared {
    /// The worker that serves them.
    pub(super) worker: Arc<Worker>,
    /// Their connection, as requests see it.
    pub(super) connection: Arc<ClientConnection>,
    /// Counts those that were answered.
    pub(super) answered: Answered,
    /// Counts what has come of their contents.
    pub(super) unread: Arc<UnreadContent>,
    /// What of answers was not taken by the client's socket yet.
    pub(super) unwritten: Unwritten,
    /// Those that are under way.
    pub(super) streams: Streams,
}

/// Starts the task of a stream that has begun.
pub(super) fn begin(shared: Arc<Shared>, request: Request<RecvStream>, stream: SendResponse<Bytes>) {
    let reply = Arc::new(Reply::new(stream));
    shared.streams.begin(&reply);
    // Boxed, since the runtime moves it about.
    drop(tokio::spawn(Box::pin(run(shared, request, reply))));
}

/// Serves a stream to its end. Dropped before that, it is reset.
async fn run(shared: Arc<Shared>, request: Request<RecvStream>, reply: Arc<Reply>) {
    let (received, to_tunnel) = received(request, &reply, &shared.unread);
    let Some(answer) = answer(&shared, received, &reply).await else { return };
    shared.answered.count();
    let (mut head, body) = answer.into_parts();
    let opened = to_tunnel.filter(|_| head.status.is_success());
    let ends = opened.is_none() && body.is_end_stream();
    head.headers
        .entry(DATE)
        .or_insert_with(|| HeaderValue::from_bytes(&http_date()).unwrap_or_else(|_| HeaderValue::from_static("")));
    if !ends && let Some(length) = body.size_hint().exact().filter(|_| opened.is_none()) {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
    let sending = match reply.begin_answer(Response::from_parts(head, ()), ends) {
        Ok(sending) => sending,
        Err(error) => return tracing::debug!(%error, "an answer was not taken"),
    };
    if let Some(ToTunnel { receiving, tunnel }) = opened {
        // One that waits no more has ended, and its stream is reset.
        drop(tunnel.send(StreamTunnel::new(sending, receiving, ())));
    } else if !ends {
        send(Outgoing::new(sending, body), &reply, &shared.unwritten).await;
    }
}

/// Sends an answer's content, and tells the watchdog where that stands still.
async fn send(mut content: Outgoing<ResponseBody>, reply: &Reply, unwritten: &Unwritten) {
    let sent = poll_fn(|cx| {
        if unwritten.must_wait(cx) {
            reply.progress.waits();
            return content.poll_gone(cx).map(|()| Err(Unsent::Gone));
        }
        let before = content.sent();
        let polled = content.poll(cx);
        unwritten.add(content.sent() - before);
        match content.is_blocked() {
            true => reply.progress.waits(),
            false => reply.progress.goes_on(),
        }
        polled
    });
    match sent.await {
        Ok(()) => {}
        Err(Unsent::Body) => content.reset(Reason::INTERNAL_ERROR),
        Err(Unsent::Gone) => tracing::debug!("an answer was not taken"),
    }
}

/// What a tunnel needs of its stream, until it is there.
struct ToTunnel {
    receiving: RecvStream,
    tunnel: oneshot::Sender<StreamTunnel<()>>,
}

/// Makes what is to be served of a stream's request. A WebSocket's extended CONNECT is the GET that HTTP/1.1 has for it.
fn received(
    mut request: Request<RecvStream>,
    reply: &Arc<Reply>,
    unread: &Arc<UnreadContent>,
) -> (Received, Option<ToTunnel>) {
    // The library would hold the bytes of a tunnel to it.
    let has_length = *request.method() == Method::CONNECT && request.headers().contains_key(CONTENT_LENGTH);
    let fault = has_length.then_some(HeadFault::Ambiguous("a CONNECT has a Content-Length"));
    let interim = Some(reply.clone() as _);
    if *request.method() == Method::CONNECT && asks_websocket(&request) {
        *request.method_mut() = Method::GET;
        let (tunnel, receiver) = oneshot::channel::<StreamTunnel<()>>();
        let client_side: ClientSide = Box::pin(async { Ok(Box::new(receiver.await.map_err(io::Error::other)?) as _) });
        let (parts, receiving) = request.into_parts();
        let request = Request::from_parts(parts, ClientContent::Nothing);
        let client_side = Some(client_side);
        let received = Received { request, fault, interim, expects_continue: false, client_side };
        return (received, Some(ToTunnel { receiving, tunnel }));
    }
    let (parts, receiving) = request.into_parts();
    let (mut content, mut expects_continue) = (ClientContent::Nothing, false);
    if !receiving.is_end_stream() {
        // A call gets no interim answer, and so is not waited for.
        expects_continue = says_expect(&parts.headers) && !grpc::is_call(&parts.method, &parts.headers);
        let awaits = expects_continue.then(|| reply.clone() as _);
        content = ClientContent::Http2(Http2Content::new(receiving, &parts.headers).of_client(unread.clone(), awaits));
    }
    let request = Request::from_parts(parts, content);
    (Received { request, fault, interim, expects_continue, client_side: None }, None)
}

fn asks_websocket<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Protocol>().is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

/// Returns whether a client waits to be told to send its content (RFC 9110, 10.1.1).
fn says_expect(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|expects| expects.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// Has a request answered; `None` when its client has reset it, or its connection has ended.
async fn answer(shared: &Shared, received: Received, reply: &Reply) -> Option<Response<ResponseBody>> {
    let mut serving = pin!(serve(shared.worker.clone(), shared.connection.clone(), received));
    poll_fn(|cx| match reply.poll_gone(cx) {
        // It may have been before anything was done.
        Poll::Ready(()) => Poll::Ready(None),
        Poll::Pending => serving.as_mut().poll(cx).map(Some),
    })
    .await
}
