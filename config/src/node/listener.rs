//! `[[listeners]]`: where clients connect.

use std::path::Path;
use std::sync::Arc;

use super::address::socket_address;
use super::{CertificateFiles, Geoip, Listener, ProxyProtocol, Tls};
use crate::field::{Field, Section};
use crate::quote::quote;

/// Reads the listeners; returns each with the field that has its address.
pub(super) fn listeners<'t>(root: &Section<'t>, directory: &Path, geoip: &Geoip) -> Vec<(Listener, Field<'t>)> {
    let Some(list) = root.required("listeners", "a node has at least one [[listeners]]") else { return Vec::new() };
    let Some(fields) = list.list() else { return Vec::new() };
    if fields.is_empty() {
        list.error("the list is empty: a node has at least one [[listeners]]".to_owned());
    }
    if fields.len() > MAX_LISTENERS {
        list.error(format!("{} listeners; a node can have at most {MAX_LISTENERS}", fields.len()));
    }
    fields.iter().take(MAX_LISTENERS).filter_map(|field| listener(field, directory, geoip)).collect()
}

fn listener<'t>(field: &Field<'t>, directory: &Path, geoip: &Geoip) -> Option<(Listener, Field<'t>)> {
    let section =
        field.section(&["address", "tls", "redirect_to_https", "redirect_port", "proxy_protocol", "health_path"])?;
    let tls = section.field("tls");
    let redirect = section.field("redirect_to_https");
    let redirect_to_https = redirect.as_ref().and_then(|field| field.boolean()).unwrap_or(false);
    if let Some(field) = redirect.filter(|_| redirect_to_https && tls.is_some()) {
        field.error("a listener with tls has nothing to redirect: redirect on the plain one".to_owned());
    }
    let port = section.field("redirect_port");
    if let Some(field) = port.as_ref().filter(|_| !redirect_to_https) {
        field.warning("no effect without redirect_to_https = true".to_owned());
    }
    let redirect_port = port.and_then(|field| field.integer(1..=65_535)).unwrap_or(HTTPS_PORT);
    let protocol = section.field("proxy_protocol");
    let proxy_protocol = protocol.as_ref().and_then(|field| field.choice(PROXY_PROTOCOL)).unwrap_or(ProxyProtocol::Off);
    if let Some(field) = protocol.filter(|_| proxy_protocol == ProxyProtocol::Trusted)
        && geoip.trusted_proxies.is_empty()
    {
        field.warning("nobody is trusted to send it: name the proxies in geoip.trusted_proxies".to_owned());
    }
    let health_path = match section.field("health_path") {
        Some(field) => health_path(&field),
        None => Some(HEALTH_PATH.into()),
    };
    let address_field = section.required("address", "say what to bind: address = \"0.0.0.0:443\"");
    let tls = tls.and_then(|field| read_tls(&field, directory));
    let address_field = address_field?;
    let address = socket_address(&address_field)?;
    Some((Listener { address, tls, redirect_to_https, redirect_port, proxy_protocol, health_path }, address_field))
}

/// Reads a path, or `None` for `"off"`.
fn health_path(field: &Field<'_>) -> Option<Arc<str>> {
    let text = field.text()?;
    if text == "off" {
        return None;
    }
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
    if !text.starts_with('/') || text.len() > LONGEST_PATH || !text.bytes().all(is_plain) {
        field.error(format!("{} is no path such as \"{HEALTH_PATH}\", and not \"off\"", quote(text)));
    }
    Some(text.into())
}

fn read_tls(field: &Field<'_>, directory: &Path) -> Option<Tls> {
    let remedy = "name its files: certificates = [{ certificate = \"api.pem\", key = \"api-key.pem\" }]";
    let list = field.section(&["certificates"])?.required("certificates", remedy)?;
    let fields = list.list()?;
    if fields.is_empty() {
        list.error(format!("the list is empty: {remedy}"));
    }
    Some(Tls { certificates: fields.iter().filter_map(|field| certificate(field, directory)).collect() })
}

fn certificate(field: &Field<'_>, directory: &Path) -> Option<CertificateFiles> {
    let section = field.section(&["certificate", "key"])?;
    let file = |key, remedy| section.required(key, remedy).and_then(|field| field.file(directory));
    let certificate = file("certificate", "name the PEM file with the certificate chain");
    let key = file("key", "name the PEM file with the private key");
    Some(CertificateFiles { certificate: certificate?, key: key? })
}

const PROXY_PROTOCOL: &[(&str, ProxyProtocol)] = &[("off", ProxyProtocol::Off), ("trusted", ProxyProtocol::Trusted)];

/// The default health path, below a name that no application uses.
const HEALTH_PATH: &str = "/.meridian/health";
/// The longest health path, in bytes: what balancers' forms take.
const LONGEST_PATH: usize = 256;

const MAX_LISTENERS: usize = 256;

/// The port of `https://` without one.
const HTTPS_PORT: u16 = 443;
