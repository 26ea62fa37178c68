//! Everything that takes a stranger's bytes, against properties and naive models. How to run a long
//! session, and what to do with a crash: see `README.md`.
//!
//! A target is a function of bytes that panics when a promise is broken. Its corpus, in
//! `__fuzz__/<target>/corpus`, is text that can be read and written by hand.

mod address;
mod cookie;
mod database;
mod mutation;
mod node;
mod path;
mod problems;
mod route;
mod table;

/// A target: bolero replays its corpus and its crashes, or hands it to a coverage-guided engine; then
/// come mutations of the corpus, the same in every run.
macro_rules! targets {
    ($($name:ident: $cases:literal),* $(,)?) => {$(
        #[test]
        fn $name() {
            // The macro names the directory of the corpus after the function that it stands in.
            // A coverage-guided engine does not return. bolero's own random inputs have a seed of the system's:
            // none of those.
            bolero::check!().with_iterations(0).for_each($name::check);
            mutation::run(stringify!($name), $cases, $name::check);
        }
    )*};
}

// The numbers make each target take about a second in a debug build.
targets! {
    address: 20_000,
    cookie: 4_000,
    database: 10_000,
    node: 1_000,
    path: 20_000,
    route: 4_000,
    table: 250,
}
