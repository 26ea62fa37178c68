//! Who is asked for names: the name servers of the node file or the system's, and the system's hosts before either.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Hosts, TokioResolver};

/// Makes a resolver that asks these servers, or the system's if there are none, by the system's files as they are now.
///
/// # Errors
/// When the system has no file that names a server.
pub(crate) fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    let [resolv_conf, hosts] = system_files();
    let (config, mut options) = if servers.is_empty() {
        parse_resolv_conf(std::fs::read(resolv_conf)?)?
    } else {
        let servers = servers.iter().map(|server| {
            let mut transports = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            transports.iter_mut().for_each(|transport| transport.port = server.port());
            NameServerConfig::new(server.ip(), true, transports)
        });
        (ResolverConfig::from_parts(None, Vec::new(), servers.collect()), ResolverOpts::default())
    };
    options.cache_size = 0;
    // They are read here.
    options.use_hosts_file = ResolveHosts::Never;
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
    let mut resolver = builder.build()?;
    let mut known = Hosts::default();
    match std::fs::File::open(&hosts).and_then(|file| known.read_hosts_conf(file)) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, file = %hosts.display(), "not all hosts are read"),
    }
    resolver.set_hosts(Arc::new(known));
    Ok(resolver)
}

/// Returns where the system says whom to ask for names, and which ones it knows itself. Tests have them elsewhere.
pub(crate) fn system_files() -> [PathBuf; 2] {
    let directory = std::env::var_os("MERIDIAN_TEST_ETC").map_or_else(|| "/etc".into(), PathBuf::from);
    ["resolv.conf", "hosts"].map(|name| directory.join(name))
}
