//! How much of a scenario runs, from which seed, and whether it is spoiled.

use anyhow::Context as _;

/// How much of a scenario runs, and how.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    thousandths: u64,
    seed: u64,
    spoiled: bool,
}

impl Scale {
    /// So many thousandths of the full count.
    pub fn thousandths(thousandths: u64, seed: u64) -> Self {
        Self { thousandths, seed, spoiled: false }
    }

    /// From a decimal such as `0.1`, of which three places count.
    pub fn parse(text: &str, seed: u64) -> anyhow::Result<Self> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let part: String = part.chars().chain("000".chars()).take(3).collect();
        let thousandths = whole.parse::<u64>().context("a scale such as 0.1")?.saturating_mul(1000);
        Ok(Self::thousandths(thousandths + part.parse::<u64>().context("a scale such as 0.1")?, seed))
    }

    /// The same with the fault that the scenario has to see.
    #[must_use]
    pub fn spoiled(self) -> Self {
        Self { spoiled: true, ..self }
    }

    /// Whether the scenario has to see a fault of its own.
    pub fn is_spoiled(self) -> bool {
        self.spoiled
    }

    /// Whether everything is done, by somebody who has the machine for that alone.
    pub fn is_full(self) -> bool {
        self.thousandths >= 1000
    }

    /// What the dice start from.
    pub fn seed(self) -> u64 {
        self.seed
    }

    /// How many of `full`, at least one.
    pub fn of(self, full: u64) -> u64 {
        full.saturating_mul(self.thousandths).div_ceil(1000).max(1)
    }

    /// The dice of one part of a scenario.
    pub fn dice(self, part: u64) -> Dice {
        Dice(self.seed.wrapping_add(part.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
    }
}

/// Numbers that look random and are the same for the same seed, whatever a library's next version does.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The next number below `bound`; 0 if there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).checked_rem(bound).unwrap_or(0)
    }

    /// The next size below `bound`.
    pub fn size(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(u64::try_from(bound).unwrap_or(u64::MAX))).unwrap_or(0)
    }

    /// True once in `times` on average.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_part_of_the_full_count() {
        for (text, full, part) in
            [("1", 1000, 1000), ("1.0", 10, 10), ("0.1", 1000, 100), ("0.004", 1000, 4), ("0.01", 3, 1)]
        {
            assert_eq!(Scale::parse(text, 1).unwrap().of(full), part, "{text}");
        }
        assert!(Scale::parse("a.b", 1).is_err());
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let mut dice = Scale::thousandths(1, seed).dice(3);
            std::array::from_fn::<u64, 8, _>(|_| dice.below(1000))
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }
}
