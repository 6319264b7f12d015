//! Bytes to lines, with a bound: a line that is too long is dropped whole, and told once.

#[derive(Debug)]
pub(super) struct Lines {
    kept: Vec<u8>,
    limit: usize,
    /// The rest of a line that was too long is coming.
    dropping: bool,
}

impl Lines {
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), limit, dropping: false }
    }

    /// Gives every line that is complete; `None` for one that was too long.
    pub(super) fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Option<&[u8]>)) {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = rest.split_at(end);
            self.take(line, each);
            self.end(each);
            rest = after.get(1..).unwrap_or_default();
        }
        self.take(rest, each);
    }

    pub(super) fn finish(&mut self, each: &mut dyn FnMut(Option<&[u8]>)) {
        self.end(each);
    }

    fn take(&mut self, part: &[u8], each: &mut dyn FnMut(Option<&[u8]>)) {
        if self.dropping {
            return;
        }
        if self.kept.len() + part.len() > self.limit {
            self.dropping = true;
            self.kept = Vec::new();
            return each(None);
        }
        self.kept.extend_from_slice(part);
    }

    fn end(&mut self, each: &mut dyn FnMut(Option<&[u8]>)) {
        if !self.dropping && !self.kept.is_empty() {
            each(Some(&self.kept));
        }
        self.kept.clear();
        self.dropping = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(parts: &[&[u8]], limit: usize) -> (Vec<Option<Vec<u8>>>, usize) {
        let mut lines = Lines::new(limit);
        let mut seen = Vec::new();
        let mut most = 0;
        for part in parts {
            lines.push(part, &mut |line| seen.push(line.map(<[u8]>::to_vec)));
            most = most.max(lines.kept.len());
        }
        lines.finish(&mut |line| seen.push(line.map(<[u8]>::to_vec)));
        (seen, most)
    }

    proptest! {
        #[test]
        fn how_bytes_arrive_changes_nothing_and_memory_is_bounded(text in "[ab\n]{0,60}", cuts in proptest::collection::vec(0_usize..60, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|w| &text.as_bytes()[w[0]..w[1]]).collect();
            let (seen, most) = lines(&parts, 8);
            prop_assert_eq!(&seen, &lines(&[text.as_bytes()], 8).0);
            prop_assert!(most <= 8);
            let whole: Vec<Option<Vec<u8>>> =
                text.split('\n').filter(|l| !l.is_empty()).map(|l| (l.len() <= 8).then(|| l.as_bytes().to_vec())).collect();
            prop_assert_eq!(seen, whole);
        }
    }
}
