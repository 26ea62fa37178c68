//! What to try while the demo stays up.

use std::path::Path;

use crate::ingress::Ingress;

/// Command lines to paste.
pub(crate) fn lines(ingress: &Ingress, directory: &Path) -> String {
    let Ingress { https, http, admin, .. } = ingress;
    let meridian = quoted(&std::env::args().next().unwrap_or_else(|| "meridian".to_owned()));
    let directory = quoted(&directory.display().to_string());
    format!(
        "\
The regions and the ingress stay up until Ctrl-C. Try, in another terminal:

  # personal data of a client in the US, of one in Germany, of one nobody knows: see x-meridian-region
  curl -ski https://{https}/v3/hello -H 'x-forwarded-for: 192.0.2.1'
  curl -ski https://{https}/v3/hello -H 'x-forwarded-for: 198.51.100.1'
  curl -ski https://{https}/v3/hello -H 'x-forwarded-for: 192.0.2.200'
  # public data of the German; and plain HTTP
  curl -ski https://{https}/public/hello -H 'x-forwarded-for: 198.51.100.1'
  curl -si http://{http}/v3/hello

  # why; and what if
  {meridian} explain --admin http://{admin} --ip 198.51.100.1 --path /v3/hello
  {meridian} explain --config {directory}/node.toml --ip 198.51.100.1 --path /v3/hello \\
    --down eu-west-1 --down eu-central-1
  curl -s 'http://{admin}/explain?ip=198.51.100.1&path=/v3/hello'

  # the node's state and metrics
  curl -s http://{admin}/status
  curl -s http://{admin}/metrics | grep -E '^(http_requests|meridian_failovers|http_errors)_total'

  # change the law, and it is in force at once: now a client in Brazil, which no rule names, gets a 451
  sed -i.before '/^unlisted_jurisdiction/s/allow/refuse/' {directory}/routes.toml
  {meridian} check {directory}/node.toml
  sleep 1; curl -ski https://{https}/v3/hello -H 'x-forwarded-for: 192.0.2.129'

"
    )
}

/// As one word for a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
