//! Four organisations' tables, as shipped in `config/examples`, in the scenarios that they were written for.

mod cortex;
mod erlmcp_aws;
mod erlmcp_gcp;
mod somaagent;
