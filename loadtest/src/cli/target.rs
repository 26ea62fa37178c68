//! Which server a URL means, and whether we may load it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use anyhow::{Context as _, bail, ensure};
use loadtest::{Protocol, Target, Tls};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::arguments::Args;

/// Returns the server to dial for requests that ask for `host`.
pub(super) fn target(args: &Args, host: &str) -> anyhow::Result<Target> {
    let https = match args.url.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => bail!("{} has no scheme that we speak: begin it with http:// or https://", args.url),
    };
    Ok(Target {
        address: address(args, if https { 443 } else { 80 })?,
        protocol: if args.h2 { Protocol::Http2 } else { Protocol::Http1 },
        tls: https
            .then(|| tls(args, host).and_then(|tls| Ok(if args.x25519 { tls.x25519_only()? } else { tls })))
            .transpose()?,
    })
}

fn address(args: &Args, default_port: u16) -> anyhow::Result<SocketAddr> {
    let name = args.url.host().unwrap_or_default();
    let port = args.url.port_u16().unwrap_or(default_port);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let ip = match bare.parse::<IpAddr>() {
        Ok(ip) => ip,
        Err(_) if bare.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
        Err(_) if args.allow_remote => {
            let found = (bare, port).to_socket_addrs().with_context(|| format!("looking up {bare}"))?.next();
            found.with_context(|| format!("{bare} has no address"))?.ip()
        }
        Err(_) => bail!("{bare} may not be on loopback: write its address in the URL and the name after --host"),
    };
    ensure!(
        args.allow_remote || ip.to_canonical().is_loopback(),
        "{ip} is not a loopback address: a load test can take a server down. --allow-remote if it is yours"
    );
    Ok(SocketAddr::new(ip, port))
}

fn tls(args: &Args, host: &str) -> anyhow::Result<Tls> {
    let authority: http::uri::Authority = host.parse().with_context(|| format!("{host:?} is no host"))?;
    let server_name = authority.host().trim_start_matches('[').trim_end_matches(']');
    if args.insecure {
        return Ok(Tls::danger_accept_any_certificate(server_name)?);
    }
    let file = args.ca.as_ref().context("https needs --ca FILE to check the certificate, or --insecure not to")?;
    let reading = || format!("reading CA certificates from {}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(reading)? {
        roots.add(certificate.with_context(reading)?).with_context(reading)?;
    }
    Tls::verified(server_name, roots).with_context(reading)
}
