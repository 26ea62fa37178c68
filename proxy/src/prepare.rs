//! Everything that a node file leads to, loaded and checked before anything of it is used: the same
//! for a start, a reload and `meridian check`.

use std::collections::HashMap;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use config::bus::TrustedKeys;
use config::{BusSource, ListenerId, NodeConfig, Problem, Problems, RoutingTable, Severity};
use geoip::{GeoDatabases, TrustedProxies};
use policy::LawTime;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::client::Geo;
use crate::clock;
use crate::peers::{Peers, PeersError};
use crate::server_tls::CertificateSet;
use crate::token::{KeyError, Tokens};
use crate::upstream::connect::{Connector, error_text, tls_config};
use crate::upstream::resolve::Resolver;

/// A node's configuration with all that it names.
pub(crate) struct LoadedNode {
    /// The node file.
    pub(crate) config: NodeConfig,
    /// The routing table, if it comes from a file.
    pub(crate) document: Option<RoutingTable>,
    /// The components that a reload of the node file replaces.
    pub(crate) components: Components,
}

/// The reloadable components behind a node file.
pub(crate) struct Components {
    /// Where clients are.
    pub(crate) geo: Geo,
    /// Whose bearer tokens are believed.
    pub(crate) tokens: Tokens,
    /// Certificates, authorities and secrets.
    pub(crate) identity: Identity,
}

/// What this process is to others, and by what it knows them: certificates, authorities, secrets.
pub(crate) struct Identity {
    /// Which other processes are nodes.
    pub(crate) peers: Arc<Peers>,
    /// Each TLS listener's certificates.
    pub(crate) certificates: HashMap<ListenerId, CertificateSet>,
    /// How to connect upstream.
    pub(crate) connector: Connector,
    /// What is not shown, or refused by others, for its dates.
    pub(crate) warnings: Vec<Problem>,
}

/// What a node has in force of its [`Identity`]: it stays where a file has become bad.
pub(crate) struct IdentityInForce {
    pub(crate) peers: Arc<Peers>,
    pub(crate) certificates: HashMap<ListenerId, Arc<CertificateSet>>,
    /// Whom endpoints are verified by.
    pub(crate) roots: Arc<rustls::RootCertStore>,
}

impl LoadedNode {
    /// Loads a node file and all that it names; the table's law is read as of a time.
    ///
    /// # Errors
    /// Every problem with any of it.
    pub(crate) fn load(file: &Path, at: LawTime) -> Result<Self, Problems> {
        let config = NodeConfig::load(file)?;
        let mut problems = Vec::new();
        let components = keep(Components::load(&config), &mut problems);
        let document = match &config.routing {
            config::Routing::File(table) => keep(RoutingTable::load(table, at), &mut problems),
            config::Routing::Bus(source) => {
                keep(bus_files(&config, source), &mut problems);
                None
            }
        };
        if let Some(document) = &document
            && document.table.region_named(&config.region).is_none()
        {
            problems.push(region_missing(&config, document));
        }
        if let (Some(document), Some(components)) = (&document, &components) {
            problems.extend(components.identity.peers.problems_with(document, &config.file, &config.region));
        }
        match components {
            Some(components) if problems.is_empty() => {
                let mut config = config;
                let warnings: Vec<Problem> =
                    document.iter().flat_map(|document| warnings(&config, document, &components.geo)).collect();
                config.warnings.extend(warnings);
                config.warnings.extend(components.identity.warnings.iter().cloned());
                Ok(Self { config, document, components })
            }
            _ => Err(Problems(problems)),
        }
    }
}

/// Returns whether the files that a bus needs are there and good. They are read again whenever they are used.
fn bus_files(config: &NodeConfig, source: &BusSource) -> Result<(), Problems> {
    let mut problems = Vec::new();
    if let Err(errors) = TrustedKeys::load(&source.trusted_keys) {
        let path = "routing.bus.trusted_keys";
        problems.extend(errors.into_iter().map(|error| problem(&error.file, path, error.what)));
    }
    if let Err(error) = source.access.check() {
        problems.push(problem(&config.file, "routing.bus", error.to_string()));
    }
    if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
}

impl Components {
    /// Loads the databases, certificates and authorities that a node file names.
    ///
    /// # Errors
    /// Every problem with any of them.
    pub(crate) fn load(config: &NodeConfig) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let geo = keep(geo(config), &mut problems);
        let identity = keep(Identity::load(config), &mut problems);
        let tokens = keep(tokens(config), &mut problems);
        match (geo, tokens, identity) {
            (Some(geo), Some(tokens), Some(identity)) => Ok(Self { geo, tokens, identity }),
            _ => Err(Problems(problems)),
        }
    }
}

impl Identity {
    /// Loads the certificates, authorities and secrets that a node file names.
    ///
    /// # Errors
    /// Every problem with any of them.
    pub(crate) fn load(config: &NodeConfig) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let peers = keep(peers(config), &mut problems).map(Arc::new);
        // Of a node whose own certificate is bad, the others are looked at all the same.
        let known = peers.clone().unwrap_or_default();
        let certificates = certificates(config, &known, None, &mut problems);
        let roots = keep(upstream_roots(config), &mut problems);
        let connector = roots.and_then(|roots| keep(connector(config, roots, &known), &mut problems));
        match (peers, connector) {
            (Some(peers), Some(connector)) if problems.is_empty() => {
                Ok(Self::new(config, peers, certificates, connector))
            }
            _ => Err(Problems(problems)),
        }
    }

    /// Loads them again, for a node that runs: what has become bad stays as it is in force, each by itself, and what is
    /// wrong with it is returned. `fits` says whether the node's table can do with other peers.
    ///
    /// # Errors
    /// When nothing can be connected to by what is in force, which is a mistake in the build.
    pub(crate) fn renew(
        config: &NodeConfig,
        in_force: &IdentityInForce,
        fits: impl Fn(&Peers) -> Result<(), Problems>,
    ) -> Result<(Self, Vec<Problem>), Problems> {
        let mut problems = Vec::new();
        let renewed = peers(config).and_then(|peers| fits(&peers).map(|()| Arc::new(peers)));
        let peers = keep(renewed, &mut problems).unwrap_or_else(|| in_force.peers.clone());
        let certificates = certificates(config, &peers, Some(&in_force.certificates), &mut problems);
        let roots = keep(upstream_roots(config), &mut problems).unwrap_or_else(|| in_force.roots.clone());
        let connector = connector(config, roots, &peers)?;
        Ok((Self::new(config, peers, certificates, connector), problems))
    }

    fn new(
        config: &NodeConfig,
        peers: Arc<Peers>,
        certificates: HashMap<ListenerId, CertificateSet>,
        connector: Connector,
    ) -> Self {
        let now = clock::unix_seconds() as i64;
        let warning = |file: &Path, path: String, message: String| Problem {
            severity: Severity::Warning,
            ..problem(file, &path, message)
        };
        let mut warnings = Vec::new();
        for (index, (id, _)) in config.listeners_by_id().enumerate() {
            for entry in certificates.get(&id).map(CertificateSet::own).unwrap_or_default() {
                let Some(fault) = entry.validity.fault(now) else { continue };
                let path = format!("listeners[{index}].tls.certificates");
                warnings.push(warning(&entry.file, path, format!("{fault}; it is not shown")));
            }
        }
        if let Some((own, fault)) = peers.certificate.as_ref().zip(peers.certificate_fault()) {
            warnings.push(warning(&own.file, "peers.certificate".to_owned(), fault));
        }
        Self { peers, certificates, connector, warnings }
    }
}

/// Returns the geo databases that a node file names.
///
/// # Errors
/// Every database that does not open.
pub(crate) fn geo(config: &NodeConfig) -> Result<Geo, Problems> {
    let databases = GeoDatabases::open_all(&config.geoip.databases).map_err(|errors| {
        let problem = |error: geoip::DatabaseError| problem(error.path(), "geoip.databases", error.to_string());
        Problems(errors.into_iter().map(problem).collect())
    })?;
    Ok(Geo {
        databases: Arc::new(databases),
        trusted: TrustedProxies::from(config.geoip.trusted_proxies.clone()),
        // The node file has only names of headers here.
        country_header: config.geoip.country_header.as_ref().and_then(|name| name.parse().ok()),
        anonymous_asns: config.geoip.anonymous_asns.clone(),
    })
}

/// Returns the keys of the issuers that a node file names.
///
/// # Errors
/// Every key that does not load.
pub(crate) fn tokens(config: &NodeConfig) -> Result<Tokens, Problems> {
    Tokens::load(&config.tokens).map_err(|errors| {
        let problem = |error: KeyError| problem(&error.file, "tokens.keys", error.to_string());
        Problems(errors.into_iter().map(problem).collect())
    })
}

/// Returns what `[peers]` of a node file leads to.
fn peers(config: &NodeConfig) -> Result<Peers, Problems> {
    Peers::load(config.peers.as_ref()).map_err(|errors| {
        let problem = |error: PeersError| problem(&error.file, error.key, error.what);
        Problems(errors.into_iter().map(problem).collect())
    })
}

/// Loads each TLS listener's certificates, and with them this node's own. What is in force, if anything is, stays where it
/// cannot be loaded.
fn certificates(
    config: &NodeConfig,
    peers: &Peers,
    in_force: Option<&HashMap<ListenerId, Arc<CertificateSet>>>,
    problems: &mut Vec<Problem>,
) -> HashMap<ListenerId, CertificateSet> {
    let mut sets = HashMap::new();
    for (index, (id, listener)) in config.listeners_by_id().enumerate() {
        let Some(tls) = &listener.tls else { continue };
        let before = in_force.and_then(|sets| sets.get(&id)).map(Arc::as_ref);
        let errors = match CertificateSet::load(&tls.certificates, peers.certificate.as_ref(), before) {
            Ok((set, kept)) => {
                sets.insert(id, set);
                kept
            }
            Err(errors) => errors,
        };
        let path = format!("listeners[{index}].tls.certificates");
        problems.extend(errors.into_iter().map(|error| problem(&error.file, &path, error.what)));
    }
    sets
}

/// Loads the authorities that certify endpoints: the node file's, or else the system's.
fn upstream_roots(config: &NodeConfig) -> Result<Arc<rustls::RootCertStore>, Problems> {
    const PATH: &str = "upstream.certificate_authorities";
    let mut roots = rustls::RootCertStore::empty();
    let mut problems = Vec::new();
    for file in &config.upstream.certificate_authorities {
        let read: Result<Vec<CertificateDer<'_>>, _> = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
        match read {
            Ok(authorities) if authorities.is_empty() => {
                problems.push(problem(file, PATH, "the file has no certificate".to_owned()));
            }
            Ok(authorities) => {
                for authority in authorities {
                    if let Err(error) = roots.add(authority) {
                        problems.push(problem(file, PATH, format!("a certificate is no authority: {error}")));
                    }
                }
            }
            Err(error) => problems.push(problem(file, PATH, format!("no readable PEM certificates: {error}"))),
        }
    }
    if config.upstream.certificate_authorities.is_empty() {
        let system = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(system.certs);
        // A system without authorities is none's fault; one whose authorities cannot be read just now has some.
        let unread = system.errors.iter().map(|error| problem(&config.file, PATH, error_text(error)));
        problems.extend(unread.filter(Problem::may_pass));
    }
    if problems.is_empty() { Ok(Arc::new(roots)) } else { Err(Problems(problems)) }
}

fn connector(
    config: &NodeConfig,
    roots: Arc<rustls::RootCertStore>,
    peers: &Arc<Peers>,
) -> Result<Connector, Problems> {
    let tls =
        tls_config(&roots).map_err(|error| Problems(vec![problem(&config.file, "upstream", error.to_string())]))?;
    let resolver = Resolver::new(config.upstream.nameservers.clone(), config.upstream.absence_grace);
    Ok(Connector::new(&tls, roots, peers.clone(), resolver, config.upstream.connect_timeout))
}

fn region_missing(config: &NodeConfig, document: &RoutingTable) -> Problem {
    let known: Vec<&str> = document.table.regions().map(|(_, region)| region.name.as_str()).collect();
    let message = format!(
        "this node's region {:?} is not in its routing table, whose regions are {}",
        config.region,
        known.join(", ")
    );
    problem(&config.file, "node.region", message)
}

/// Returns what is hardly meant of a table on this node.
fn warnings(config: &NodeConfig, document: &RoutingTable, geo: &Geo) -> Vec<Problem> {
    let mut warnings = unheard(config, document);
    warnings.extend(own_listeners(config, document));
    warnings.extend(unfenced(config, document));
    warnings.extend(geo.lacks_coordinates(&document.table).map(|lack| Problem {
        severity: Severity::Warning,
        ..problem(&config.file, "geoip.databases", lack.to_owned())
    }));
    warnings
}

/// Returns the standbys that are to take writes over and cannot: the table of a file is no fleet's.
fn unfenced(config: &NodeConfig, document: &RoutingTable) -> Vec<Problem> {
    let file = document.files().first().map(|file| file.display().to_string()).unwrap_or_default();
    let standbys = document.table.write_pairs().map(|pair| document.table.region(pair.standby));
    let warning = |region: &policy::region::Region| Problem {
        severity: Severity::Warning,
        file: file.clone(),
        line: region.line,
        path: format!("regions.{}.standby.writes", region.name),
        message: format!(
            "{} has its table of a file, so that no majority of the fleet can be told from one node, and the writes stay \
             with their primary: publish the table on a config bus ([routing] bus)",
            config.file.display()
        ),
    };
    standbys.take(MAX_WARNINGS).map(warning).collect()
}

/// Returns the endpoints that are this node's own listeners: each request there comes back, and is refused as a loop.
fn own_listeners(config: &NodeConfig, document: &RoutingTable) -> Vec<Problem> {
    let is_ours = |host: &str, port: u16| {
        let Ok(address) = host.parse::<IpAddr>() else { return false };
        config.listeners.iter().map(|listener| listener.address).any(|listener| {
            let is_there = listener.ip() == address || listener.ip().is_unspecified() && is_of_this_machine(address);
            listener.port() == port && is_there
        })
    };
    let file = document.files().first().map(|file| file.display().to_string()).unwrap_or_default();
    let regions = document.table.regions().zip(&document.upstreams);
    let endpoints =
        regions.flat_map(|((_, region), upstream)| upstream.endpoints.iter().map(move |endpoint| (region, endpoint)));
    let ours = endpoints.filter(|(_, endpoint)| is_ours(&endpoint.host, endpoint.port));
    let warning = |(region, endpoint): (&policy::region::Region, &config::Endpoint)| Problem {
        severity: Severity::Warning,
        file: file.clone(),
        line: region.line,
        path: format!("regions.{}.endpoints", region.name),
        message: format!("{endpoint} is a listener of {}: what goes there comes back (508)", config.file.display()),
    };
    ours.take(MAX_WARNINGS).map(warning).collect()
}

/// Returns whether an address is one of this machine's: a socket can be bound to it.
fn is_of_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}

/// Returns what the table's routes listen for and nobody can say to this node: it is no error, since it only makes
/// the law stricter, but it is hardly meant.
fn unheard(config: &NodeConfig, document: &RoutingTable) -> Vec<Problem> {
    let nobody =
        config.geoip.trusted_proxies.is_empty().then_some("nobody is trusted to send it: geoip.trusted_proxies");
    let no_key = config.tokens.keys.is_empty().then_some("no token can be verified: tokens.keys");
    let file = document.files().first().map(|file| file.display().to_string()).unwrap_or_default();
    let routes = document.table.spec().routes.iter().enumerate();
    let keys = routes.flat_map(|(index, route)| {
        [
            ("consent_header", route.consent_header.is_some(), nobody),
            ("consent_claim", route.consent_claim.is_some(), no_key),
            ("jurisdiction_header", route.jurisdiction_header.is_some(), nobody),
        ]
        .map(|(key, asked, why)| (index, route.line, key, why.filter(|_| asked)))
    });
    let warnings = keys.filter_map(|(index, line, key, why)| {
        Some(Problem {
            severity: Severity::Warning,
            file: file.clone(),
            line,
            path: format!("routes[{index}].{key}"),
            message: format!("{} of {} is empty", why?, config.file.display()),
        })
    });
    let header = document.criticality_header.as_ref().and(nobody).map(|why| Problem {
        severity: Severity::Warning,
        file: file.clone(),
        line: 0,
        path: "concurrency.criticality_header".to_owned(),
        message: format!("{why} of {} is empty; no request is less critical than its route", config.file.display()),
    });
    header.into_iter().chain(warnings).take(MAX_WARNINGS).collect()
}

/// Routes beyond it have the same to tell.
const MAX_WARNINGS: usize = 8;

/// Returns a problem with a whole file.
pub(crate) fn problem(file: &Path, path: &str, message: String) -> Problem {
    Problem { severity: Severity::Error, file: file.display().to_string(), line: 0, path: path.to_owned(), message }
}

fn keep<T>(result: Result<T, Problems>, problems: &mut Vec<Problem>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(more) => {
            problems.extend(more.0);
            None
        }
    }
}
