//! What HTTP/2 is to clients and to origins alike: content as it arrives and as it
//! goes out, and a stream that is a tunnel (RFC 8441). The `h2` crate does frames, compression and windows.

mod content;
mod outgoing;
mod tunnel;

pub(crate) use content::{Http2Content, STREAM_WINDOW};
pub(crate) use outgoing::{Outgoing, Unsent};
pub(crate) use tunnel::{Kept, StreamTunnel};
