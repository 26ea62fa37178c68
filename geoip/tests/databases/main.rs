//! Geo databases written, opened and asked: the schemas in the wild, several at once, and damage.

mod damage;
mod merging;
mod opening;
mod sample;
mod schemas;
mod walking;
