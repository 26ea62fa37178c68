"""Makes the world that budget and compare measure in: two regions, 1,024 clients of 24 countries, a law that keeps
those of the European Union in one of the regions, and a certificate."""

import re
import subprocess
from pathlib import Path

HOST = "api.example.com"
PATH = "/v3/x"
BODY = b"x" * 1024

# Where the clients of these countries are served: eu-central-1; all others: us-east-1, the node's own region.
EU_COUNTRIES = ["DE", "FR", "NL", "PL", "ES", "IT", "SE", "AT", "IE", "BE", "DK", "FI"]


class World:
    """A directory with country.mmdb, certificate.pem and key.pem, and the list of the clients."""

    def __init__(self, directory: Path, loadtest: Path):
        self.directory = directory
        lines = subprocess.run(
            [loadtest, "mmdb", "--out", directory / "country.mmdb"], check=True, capture_output=True, text=True
        ).stdout.splitlines()
        # 192.0.2.0/20,US
        self.networks = [tuple(line.split(",")) for line in lines]
        # One client in each of 1,024 networks: 192.0.2.9
        first = self.networks[:1024]
        self.clients = [(network.split("/")[0].rsplit(".", 1)[0] + ".9", country) for network, country in first]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST},IP:127.0.0.1",
             "-keyout", directory / "key.pem", "-out", directory / "certificate.pem"],
            check=True, capture_output=True,
        )  # fmt: skip

    def write_node(
        self, name: str, listeners: list[tuple[int, bool]], admin: int, eu: str, us: str, everything: str = "",
        threads: int = 1,
    ) -> Path:
        """Writes a node's files for these listeners (port, whether over TLS), and endpoints of the two regions.

        With `everything`, an endpoint of another version, all that failover and health can do is turned on: hedging, a
        timeout for each try, probes each second, and a canary with half of the clients.
        """
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        tls = 'tls = { certificates = [{ certificate = "../certificate.pem", key = "../key.pem" }] }'
        text = NODE.replace("ADMIN", f"127.0.0.1:{admin}").replace("THREADS", str(threads))
        for port, over_tls in listeners:
            text += f'\n[[listeners]]\naddress = "127.0.0.1:{port}"\n{tls if over_tls else ""}\n'
        (directory / "node.toml").write_text(text)
        countries = ", ".join(f'"{country}"' for country in EU_COUNTRIES)
        table = TABLE.replace("COUNTRIES", countries)
        if everything:
            table = table.replace('"US_ENDPOINT"', f'"US_ENDPOINT", {{ address = "{everything}", version = "v2" }}')
            table = re.sub("(?m)^(endpoints = .*)$", r'\1\nhealth = { interval = "1s", timeout = "1s" }', table)
            table += 'retry = { hedge = true, per_try_timeout = "5s" }\n\n[canary]\nversion = "v2"\nweight = 50\n'
        table = table.replace("EU_ENDPOINT", eu).replace("US_ENDPOINT", us)
        (directory / "routes.toml").write_text(table)
        return directory


def region_of(country: str) -> str:
    """Returns the region that must serve clients of a country."""
    return "eu-central-1" if country in EU_COUNTRIES else "us-east-1"


NODE = """\
[node]
name = "measured"
region = "us-east-1"
threads = THREADS

[admin]
address = "ADMIN"

[geoip]
databases = ["../country.mmdb"]
trusted_proxies = ["127.0.0.0/8"]

[routing]
file = "routes.toml"
"""

TABLE = """\
version = "measured"

[regions.us-east-1]
country = "US"
endpoints = ["US_ENDPOINT"]

[regions.eu-central-1]
country = "DE"
endpoints = ["EU_ENDPOINT"]
# Both are on this machine, and as far as they are measured to be.
priority = 1

[jurisdictions.eu]
countries = [COUNTRIES]

[data_classes.personal]
cross_border = "prohibited"
scope = "jurisdiction"

# Data of the second class of clients in the European Union has no region here: what a refusal costs.
[data_classes.withheld]

[residency_defaults]
unlisted_jurisdiction = "allow"

[[residency]]
jurisdiction = "eu"
data_classes = ["personal"]
allow = { regions = ["eu-central-1"] }
transfer = "prohibited"
when_unavailable = "reject"
regulation = "GDPR"

[[residency]]
jurisdiction = "eu"
data_classes = ["withheld"]
allow = []
transfer = "prohibited"
regulation = "GDPR"

[[routes]]
name = "withheld"
host = "api.example.com"
path = "/v3/withheld/"
data_class = "withheld"

[[routes]]
name = "grpc"
host = "api.example.com"
path = "/grpc/"
data_class = "personal"

[[routes]]
name = "api"
host = "api.example.com"
path = "/v3/"
data_class = "personal"
"""
