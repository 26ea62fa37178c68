//! Files change under a running node: a good one is in force at once and costs nothing, a bad one changes nothing and
//! says so.

mod certificates;
mod databases;
mod every_key;
mod listeners;
mod node_file;
mod pooled;
mod streaming_origin;
mod table;
mod under_way;
