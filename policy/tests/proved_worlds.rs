//! The proof's own reading of the law, compared with decisions on random tables: it may find what a table lacks, and no
//! fault of Meridian.

use policy::proof::{Finding, prove};
use policy::{LawTime, Moment, Table};
use proptest::test_runner::TestCaseError;

mod worlds;
use worlds::{MOMENTS, TODAY, table, tables};

/// Whatever the lists, dates, classes, super-regions and defaults are, and also while the time of the law is in doubt.
#[test]
fn the_proof_reads_the_law_of_random_tables_as_decisions_do() {
    worlds::check(tables(100), table(), |mut spec| {
        let moment = |index: usize| Moment::from_unix_seconds(MOMENTS[index]);
        for at in [TODAY.into(), moment(3).into(), LawTime::between(moment(2), moment(3))] {
            spec.at = at;
            let proof = prove(&Table::new(spec.clone()).expect("a table"));
            let fault =
                proof.findings.iter().find(|one| matches!(one, Finding::Leak { .. } | Finding::Misjudged { .. }));
            if let Some(fault) = fault {
                return Err(TestCaseError::fail(format!("{}\n{fault:#?}", fault.describe(&spec))));
            }
        }
        Ok(())
    });
}
