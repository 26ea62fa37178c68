//! The built-in groups of countries: who is in them, and who says so.

use super::CountrySet;

/// A named group of countries that tables may write in place of codes.
#[derive(Debug)]
pub struct Group {
    /// Its name, such as `@EU`.
    pub name: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// Who says who is in it, as of 2026-01.
    pub source: &'static str,
    lists: &'static [&'static str],
}

impl Group {
    /// Returns the countries in it.
    pub fn members(&self) -> CountrySet {
        self.lists.iter().flat_map(|list| list.split(' ')).filter_map(|code| code.parse().ok()).collect()
    }
}

/// Returns the members of the group of this name, in upper case; `None` for an unknown one.
pub fn group(name: &str) -> Option<CountrySet> {
    GROUPS.iter().find(|group| group.name == name).map(Group::members)
}

/// Every built-in group.
pub static GROUPS: [Group; 14] = [
    Group {
        name: "@EU",
        title: "the European Union's territory: its 27 members, and those of its parts that have codes of their own",
        source: "Treaty on European Union, Article 52; Treaty on the Functioning of the European Union, Articles 349 \
            and 355(1) (outermost regions: GF, GP, MF, MQ, RE, YT) and 355(4) (Åland: AX). Outside are PM, BL, NC, \
            PF, WF, TF, GL, FO, AW, CW, SX and BQ",
        lists: &[EU, EU_TERRITORIES],
    },
    Group {
        name: "@EEA",
        title: "the European Economic Area: the Union's territory, Iceland, Liechtenstein and Norway",
        source: "Agreement on the European Economic Area, Article 126. Outside is SJ (Protocol 40)",
        lists: &[EU, EU_TERRITORIES, "IS LI NO"],
    },
    Group {
        name: "@EFTA",
        title: "the European Free Trade Association",
        source: "EFTA Convention (Vaduz, 2001): CH, IS, LI, NO",
        lists: &["CH IS LI NO"],
    },
    Group {
        name: "@UK",
        title: "the United Kingdom with Gibraltar and the Crown dependencies: for clients, not for regions",
        source: "Interpretation Act 1978, Schedule 1 (the British Islands: GB, GG, IM, JE), and GI, an overseas \
            territory. All but GB are outside the United Kingdom, and what the Union decided on GB is not theirs: \
            GG, IM and JE have adequacy decisions of their own, GI has none",
        lists: &["GB GG GI IM JE"],
    },
    Group { name: "@AFRICA", title: "Africa", source: M49, lists: &[AFRICA] },
    Group { name: "@ASIA", title: "Asia", source: M49_ASIA, lists: &[WESTERN_ASIA, REST_OF_ASIA] },
    Group { name: "@EUROPE", title: "Europe", source: M49_EUROPE, lists: &[EUROPE] },
    Group {
        name: "@NORTH_AMERICA",
        title: "Northern America, Central America and the Caribbean",
        source: M49,
        lists: &[NORTH_AMERICA],
    },
    Group { name: "@SOUTH_AMERICA", title: "South America", source: M49, lists: &[SOUTH_AMERICA] },
    Group { name: "@OCEANIA", title: "Oceania", source: M49, lists: &[OCEANIA] },
    Group { name: "@ANTARCTICA", title: "Antarctica", source: M49, lists: &[ANTARCTICA] },
    Group {
        name: "@AMERICAS",
        title: "both Americas",
        source: "@NORTH_AMERICA and @SOUTH_AMERICA",
        lists: &[NORTH_AMERICA, SOUTH_AMERICA],
    },
    Group {
        name: "@EMEA",
        title: "Europe, the Middle East and Africa",
        source: "@EUROPE, @AFRICA, and UN M49's Western Asia with Iran",
        lists: &[EUROPE, AFRICA, WESTERN_ASIA],
    },
    Group {
        name: "@APAC",
        title: "Asia without the Middle East, and Oceania",
        source: "the rest of @ASIA, and @OCEANIA",
        lists: &[REST_OF_ASIA, OCEANIA],
    },
];

const M49: &str = "United Nations, Standard Country or Area Codes for Statistical Use (M49)";
const M49_ASIA: &str = "United Nations, Standard Country or Area Codes for Statistical Use (M49); Taiwan, which it does \
    not list, beside China; Türkiye, Cyprus and the Caucasus are here";
const M49_EUROPE: &str = "United Nations, Standard Country or Area Codes for Statistical Use (M49); Kosovo, which it \
    does not list, beside Serbia; Russia is here";

const EU_TERRITORIES: &str = "AX GF GP MF MQ RE YT";
const EU: &str = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK";
const EUROPE: &str = "AD AL AT AX BA BE BG BY CH CZ DE DK EE ES FI FO FR GB GG GI GR HR HU IE IM IS IT JE LI LT LU \
    LV MC MD ME MK MT NL NO PL PT RO RS RU SE SI SJ SK SM UA VA XK";
const AFRICA: &str = "AO BF BI BJ BW CD CF CG CI CM CV DJ DZ EG EH ER ET GA GH GM GN GQ GW IO KE KM LR LS LY MA MG \
    ML MR MU MW MZ NA NE NG RE RW SC SD SH SL SN SO SS ST SZ TD TF TG TN TZ UG YT ZA ZM ZW";
const WESTERN_ASIA: &str = "AE AM AZ BH CY GE IL IQ IR JO KW LB OM PS QA SA SY TR YE";
const REST_OF_ASIA: &str =
    "AF BD BN BT CN HK ID IN JP KG KH KP KR KZ LA LK MM MN MO MV MY NP PH PK SG TH TJ TL TM TW UZ VN";
const NORTH_AMERICA: &str = "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX \
    NI PA PM PR SV SX TC TT US VC VG VI";
const SOUTH_AMERICA: &str = "AR BO BR BV CL CO EC FK GF GS GY PE PY SR UY VE";
const OCEANIA: &str = "AS AU CC CK CX FJ FM GU HM KI MH MP NC NF NR NU NZ PF PG PN PW SB TK TO TV UM VU WF WS";
const ANTARCTICA: &str = "AQ";

#[cfg(test)]
mod tests {
    use super::super::Country;
    use super::*;

    fn homes(names: &[&'static str], country: Country) -> Vec<&'static str> {
        names.iter().copied().filter(|name| group(name).is_some_and(|set| set.contains(country))).collect()
    }

    #[test]
    fn every_country_has_one_continent() {
        let continents = ["@AFRICA", "@ASIA", "@EUROPE", "@NORTH_AMERICA", "@SOUTH_AMERICA", "@OCEANIA", "@ANTARCTICA"];
        for country in Country::all() {
            assert_eq!(homes(&continents, country).len(), 1, "{country}");
        }
    }

    #[test]
    fn trade_regions_cover_all_but_antarctica_once() {
        for country in Country::all().filter(|country| country.code() != "AQ") {
            assert_eq!(homes(&["@AMERICAS", "@EMEA", "@APAC"], country).len(), 1, "{country}");
        }
    }

    #[test]
    fn every_code_of_a_list_is_assigned_and_stands_once() {
        for group in &GROUPS {
            let listed: usize = group.lists.iter().map(|list| list.split(' ').count()).sum();
            assert_eq!(group.members().len(), listed, "{}", group.name);
        }
        assert!(group("@eu").is_none());
    }

    #[test]
    fn the_union_is_its_territory() {
        // As MaxMind's `is_in_european_union` and Cloudflare's `isEUCountry` have it.
        let union = "AT AX BE BG CY CZ DE DK EE ES FI FR GF GP GR HR HU IE IT LT LU LV MF MQ MT NL PL PT RE RO SE SI \
            SK YT";
        let area = "AT AX BE BG CY CZ DE DK EE ES FI FR GF GP GR HR HU IE IS IT LI LT LU LV MF MQ MT NL NO PL PT RE RO \
            SE SI SK YT";
        for (name, expected) in [("@EU", union), ("@EEA", area), ("@UK", "GB GG GI IM JE")] {
            let members = group(name).map(|members| members.iter().map(|country| country.to_string()).collect());
            assert_eq!(members, Some(expected.split(' ').map(str::to_owned).collect::<Vec<_>>()), "{name}");
        }
    }
}
