//! `loadtest origin`: serve a fixed answer.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use loadtest::Protocol;
use loadtest::origin::{Behaviour, Origin, OriginConfig, Received};

use super::signal;

/// The arguments as written.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Where to listen; port 0 takes a free one. The first line on stdout is the address bound
    #[arg(long, default_value = "127.0.0.1:0")]
    address: SocketAddr,
    /// The length of the body
    #[arg(long, value_name = "N", default_value_t = 1024)]
    body_bytes: usize,
    /// The name to answer with in x-origin
    #[arg(long, value_name = "NAME", default_value = "origin")]
    region: String,
    /// Speak HTTP/2 with prior knowledge (h2c)
    #[arg(long)]
    h2: bool,
    /// How to treat every request: normal, grpc, status=CODE, slow=DURATION, stall, close, cut, reset,
    /// reset-after-head, reset-in-body
    #[arg(long, default_value = "normal")]
    behaviour: Behaviour,
    /// Write a line to stdout for each request as soon as its head has arrived: METHOD PATH
    #[arg(long)]
    log: bool,
}

pub(super) fn run(args: Args) -> ExitCode {
    super::ended(serve(args))
}

fn serve(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        let address = args.address;
        let config = OriginConfig {
            address,
            name: args.region,
            body: vec![b'x'; args.body_bytes].into(),
            protocol: if args.h2 { Protocol::Http2 } else { Protocol::Http1 },
            tls: None,
            kept: 0,
            witness: args.log.then_some(log),
        };
        let origin = Origin::start(config).await.with_context(|| format!("listening on {address}"))?;
        origin.set_behaviour(args.behaviour);
        println!("{}", origin.address());
        signal::stop().await;
        Ok(ExitCode::SUCCESS)
    })
}

fn log(received: &Received) {
    println!("{} {}", received.method, received.path);
}
