//! A node file is taken whole, or refused with reasons; the input is its text.

use std::path::Path;

use config::NodeConfig;

use crate::problems::{check_refusal, check_warnings};

pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let file = Path::new("/etc/meridian/node.toml");
    let read = NodeConfig::from_text(file, &text);
    assert_eq!(read, NodeConfig::from_text(file, &text), "another reading, another result");
    match read {
        Ok(node) => {
            check_warnings(file, &text, &node.warnings);
            assert_eq!(node.file, file);
            assert!(!node.name.is_empty() && !node.region.is_empty());
            assert!(!node.listeners.is_empty());
            assert!(node.listeners.iter().flat_map(|listener| &listener.tls).all(|tls| !tls.certificates.is_empty()));
            assert_ne!(node.threads, Some(0));
            let limits = &node.limits;
            let counts = [limits.requests_in_flight, limits.connections, limits.header_bytes, limits.headers];
            assert!(counts.iter().all(|count| *count > 0), "{limits:?} let nothing through");
            assert!(
                ![limits.header_timeout, limits.keep_alive, node.upstream.connect_timeout]
                    .iter()
                    .any(std::time::Duration::is_zero)
            );
        }
        Err(problems) if std::env::var("SHOW").is_ok() => eprintln!("{problems}\n--"),
        Err(problems) => check_refusal(file, &text, &problems),
    }
}
