//! What the arguments of `loadtest http` mean.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use loadtest::{Plan, RequestSpec, Reuse};

use super::arguments::Args;
use super::clients::Clients;
use super::target;

/// A plan, and the request for each number of its schedule.
pub(super) struct Job {
    pub(super) plan: Plan,
    pub(super) request: Box<dyn FnMut(u64) -> RequestSpec>,
}

impl TryFrom<Args> for Job {
    type Error = anyhow::Error;

    fn try_from(args: Args) -> anyhow::Result<Job> {
        let authority = args.url.authority().context("the URL names no host: write http://127.0.0.1:8080/ in full")?;
        let host = args.host.clone().unwrap_or_else(|| authority.as_str().to_owned());
        let plan = Plan {
            target: target::target(&args, &host)?,
            rate: args.rate,
            duration: args.duration,
            connections: args.connections,
            streams: args.streams,
            timeout: args.timeout,
            reuse: if args.new_connections { Reuse::NewConnection } else { Reuse::KeepAlive },
        };
        plan.check()?;
        let request = RequestSpec {
            method: args.method.clone(),
            path: args.url.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            host,
            headers: args.header.clone(),
            body: body(&args)?,
            tag: 0,
        };
        let clients = args.vary_client.map(Clients::of);
        let request = move |sequence| {
            let mut request = request.clone();
            if let Some(clients) = &clients {
                request.headers.push(("x-forwarded-for".to_owned(), clients.address(sequence).to_string()));
            }
            request
        };
        Ok(Job { plan, request: Box::new(request) })
    }
}

fn body(args: &Args) -> anyhow::Result<Bytes> {
    match (&args.body, args.body_bytes) {
        (Some(file), _) => {
            let body = std::fs::read(file).with_context(|| format!("reading the body from {}", file.display()))?;
            Ok(body.into())
        }
        (None, Some(bytes)) if bytes > MOST_BODY_BYTES => {
            bail!("a body of {bytes} bytes is too long: give at most {MOST_BODY_BYTES}")
        }
        (None, bytes) => Ok(vec![b'x'; bytes.unwrap_or(0)].into()),
    }
}

const MOST_BODY_BYTES: usize = 1 << 30;
