//! Shared libraries for tests: as much of an ELF file as a loader reads before it runs anything.

/// What a library shall say.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made<'a> {
    pub(crate) soname: &'a str,
    pub(crate) needed: &'a [&'a str],
    pub(crate) runpath: &'a str,
    /// Sonames, and a version that it needs of each.
    pub(crate) needs: &'a [(&'a str, &'a str)],
    pub(crate) defines: &'a [&'a str],
    /// Symbols that it needs, and those that it defines.
    pub(crate) takes: &'a [&'a str],
    pub(crate) gives: &'a [&'a str],
    /// `e_machine`; 0 is this machine's.
    pub(crate) machine: u16,
    pub(crate) narrow: bool,
}

const HERE: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };

impl Made<'_> {
    /// The file. What is loaded is loaded 0x1000 above where it stands.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut strings = vec![0];
        let mut string = |text: &str| {
            let at = strings.len() as u64;
            strings.extend(text.bytes().chain([0]));
            at
        };
        let mut tags: Vec<(u64, u64)> = Vec::new();
        if !self.soname.is_empty() {
            tags.push((14, string(self.soname)));
        }
        tags.extend(self.needed.iter().map(|name| (1, string(name))));
        if !self.runpath.is_empty() {
            tags.push((29, string(self.runpath)));
        }
        let mut needs = Vec::new();
        for (nth, (of, version)) in self.needs.iter().enumerate() {
            let next = if nth + 1 < self.needs.len() { 32 } else { 0 };
            words(&mut needs, &[1 | 1 << 16, string(of) as u32, 16, next]);
            words(&mut needs, &[0, 0, string(version) as u32, 0]);
        }
        let mut defines = Vec::new();
        for (nth, version) in self.defines.iter().enumerate() {
            let next = if nth + 1 < self.defines.len() { 28 } else { 0 };
            words(&mut defines, &[1, 1, 0, 20, next, string(version) as u32, 0]);
        }
        // The first symbol is none.
        let mut symbols = vec![0; if self.narrow { 16 } else { 24 }];
        let takes = self.takes.iter().map(|name| (name, 0));
        for (name, section) in takes.chain(self.gives.iter().map(|name| (name, 1_u32))) {
            let name = string(name) as u32;
            match self.narrow {
                true => words(&mut symbols, &[name, 0, 0, 0x10 | section << 16]),
                false => words(&mut symbols, &[name, 0x10 | section << 16, 0, 0, 0, 0]),
            }
        }
        let count = 1 + self.takes.len() + self.gives.len();
        let mut hash = Vec::new();
        words(&mut hash, &[1, count as u32, 0]);
        let (head, part, tag) = if self.narrow { (52, 32, 8) } else { (64, 56, 16) };
        let dynamic = head + 2 * part;
        let count = tags.len() + 1 + 2 * 2 + 4;
        let needs_at = dynamic + count * tag;
        let defines_at = needs_at + needs.len();
        let symbols_at = defines_at + defines.len();
        let hash_at = symbols_at + symbols.len();
        let strings_at = hash_at + hash.len();
        let address = |at: usize| at as u64 + 0x1000;
        if !needs.is_empty() {
            tags.extend([(0x6fff_fffe, address(needs_at)), (0x6fff_ffff, 1)]);
        }
        if !defines.is_empty() {
            tags.extend([(0x6fff_fffc, address(defines_at)), (0x6fff_fffd, 1)]);
        }
        tags.extend([(6, address(symbols_at)), (4, address(hash_at))]);
        tags.extend([(5, address(strings_at)), (10, strings.len() as u64)]);
        let size = strings_at + strings.len();

        let mut file = vec![0x7f, b'E', b'L', b'F', if self.narrow { 1 } else { 2 }, 1, 1];
        file.resize(16, 0);
        let machine = if self.machine == 0 { HERE } else { self.machine };
        words(&mut file, &[3 | u32::from(machine) << 16, 1]);
        self.long(&mut file, &[0, head as u64, 0]);
        words(&mut file, &[0]);
        for half in [head, part, 2, 0, 0, 0] {
            file.extend((half as u16).to_le_bytes());
        }
        for (kind, at, length) in [(1_u32, 0, size), (2, dynamic, count * tag)] {
            let (at, up, length) = (at as u64, address(at), length as u64);
            words(&mut file, &[kind]);
            if self.narrow {
                self.long(&mut file, &[at, up, up, length, length]);
                words(&mut file, &[5, 8]);
            } else {
                words(&mut file, &[5]);
                self.long(&mut file, &[at, up, up, length, length, 8]);
            }
        }
        for (tag, value) in &tags {
            self.long(&mut file, &[*tag, *value]);
        }
        file.resize(needs_at, 0);
        let rest = needs.into_iter().chain(defines).chain(symbols).chain(hash).chain(strings);
        file.extend(rest);
        file
    }

    fn long(&self, file: &mut Vec<u8>, numbers: &[u64]) {
        for number in numbers {
            match self.narrow {
                true => file.extend((*number as u32).to_le_bytes()),
                false => file.extend(number.to_le_bytes()),
            }
        }
    }
}

fn words(file: &mut Vec<u8>, words: &[u32]) {
    file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
}
