//! Geo databases written, opened and asked: the schemas in the wild, several at once, and damage.

mod corrupt;
mod damage;
mod merging;
mod opening;
mod raw;
mod sample;
mod schemas;
mod walking;
