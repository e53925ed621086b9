//! The merge against a model that does what an unpacker does to a directory, with nothing
//! but a map from whole paths.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use squashfs::Special;

use super::*;
use crate::layer::extras::Extras;
use crate::layer::filter::Filter;
use crate::wire::ToWriter;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Thing {
    Directory(Meta),
    /// What it is, and a number that hard links share.
    Other(String, u32),
}

type Tree = BTreeMap<String, Thing>;

/// `umoci`'s UnpackEntry and ociWhiteout (oci/layer/tar_extract.go), on a map.
#[derive(Default)]
struct Model {
    tree: Tree,
    touched: BTreeSet<String>,
    next: u32,
}

impl Model {
    fn resolve(&self, path: &str) -> Option<String> {
        let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut at = String::new();
        let mut links = 0;
        while let Some(component) = todo.pop() {
            match component.as_str() {
                "" | "." => continue,
                ".." => {
                    at.truncate(at.rfind('/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let next = format!("{at}/{component}");
            match self.tree.get(&next) {
                Some(Thing::Other(what, _)) if what.starts_with("link ") => {
                    links += 1;
                    if links > MAX_LINKS {
                        return None;
                    }
                    let target = &what[5..];
                    if target.starts_with('/') {
                        at.clear();
                    }
                    todo.extend(target.rsplit('/').map(str::to_owned));
                }
                _ => at = next,
            }
        }
        Some(at)
    }

    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.tree.retain(|p, _| p != path && !p.starts_with(&below));
    }

    fn make_directories(&mut self, path: &str) {
        let ends: Vec<usize> =
            path.match_indices('/').map(|(i, _)| i).skip(1).chain([path.len()]).collect();
        for end in ends.into_iter().filter(|&end| end > 0) {
            if !matches!(self.tree.get(&path[..end]), Some(Thing::Directory(_))) {
                self.remove(&path[..end]);
                self.tree.insert(path[..end].to_owned(), Thing::Directory(IMPLIED));
            }
        }
    }

    fn hide(&mut self, path: &str, itself: bool) {
        let below = format!("{path}/");
        let hidden: Vec<String> = self
            .tree
            .keys()
            .filter(|p| {
                (itself && **p == path || p.starts_with(&below)) && !self.touched.contains(*p)
            })
            .cloned()
            .collect();
        hidden.iter().for_each(|p| self.remove(p));
    }

    fn apply(&mut self, item: Item<'_>) -> Option<()> {
        let path = std::str::from_utf8(item.path).unwrap();
        if item.what == What::Opaque {
            let directory = self.resolve(path)?;
            self.hide(&directory, false);
            return Some(());
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.resolve(parent)?;
        let full = format!("{directory}/{name}");
        if item.what == What::Whiteout {
            self.hide(&full, true);
            return Some(());
        }
        self.make_directories(&directory);
        let thing = match item.what {
            What::Hardlink(target) => {
                let (parent, name) = split(target);
                let parent = self.resolve(std::str::from_utf8(parent).unwrap())?;
                let target = format!("{parent}/{}", std::str::from_utf8(name).unwrap());
                match self.tree.get(&target) {
                    Some(other @ Thing::Other(..)) => other.clone(),
                    _ => return None,
                }
            }
            What::Directory => Thing::Directory(item.meta),
            What::File(_) => self.fresh(format!("file {}", item.meta.mtime)),
            What::Symlink(target) => {
                self.fresh(format!("link {}", std::str::from_utf8(target).unwrap()))
            }
            _ => self.fresh("special".to_owned()),
        };
        let stays = matches!(
            (self.tree.get(&full), &thing),
            (Some(Thing::Directory(_)), Thing::Directory(_))
        );
        if !stays {
            self.remove(&full);
        }
        self.tree.insert(full.clone(), thing);
        for (end, _) in full.match_indices('/').skip(1) {
            self.touched.insert(full[..end].to_owned());
        }
        self.touched.insert(full);
        Some(())
    }

    fn fresh(&mut self, what: String) -> Thing {
        self.next += 1;
        Thing::Other(what, self.next)
    }
}

fn model(layers: &[Layer]) -> Option<Tree> {
    let mut model = Model::default();
    for layer in layers {
        model.touched.clear();
        let mut made = true;
        let all = layer.clone().each(|item| {
            made = made && model.apply(item).is_some();
            Ok(())
        });
        all.ok().filter(|()| made)?;
    }
    Some(model.tree)
}

/// What the writer would have been told, as a map from whole paths.
fn sent(image: &Image) -> Tree {
    let mut at: Vec<String> = Vec::new();
    let mut tree = Tree::new();
    let mut shared: Vec<Thing> = Vec::new();
    let mut next = 0;
    image
        .send(&Extras::default(), |message| {
            let (name, what, links) = match message {
                ToWriter::Enter { name, meta } => {
                    at.push(String::from_utf8(name).unwrap());
                    if at.len() > 1 {
                        tree.insert(at.join("/"), Thing::Directory(meta));
                    }
                    return Ok(());
                }
                ToWriter::Leave => {
                    at.pop();
                    return Ok(());
                }
                ToWriter::Link { name, nth } => {
                    let path = format!("{}/{}", at.join("/"), String::from_utf8(name).unwrap());
                    tree.insert(path, shared[nth as usize].clone());
                    return Ok(());
                }
                // The tests' contents have the number that is the file's time too.
                ToWriter::File { name, meta, contents, links } => {
                    assert_eq!(meta.mtime, contents);
                    (name, format!("file {contents}"), links)
                }
                ToWriter::Symlink { name, target, links, .. } => {
                    (name, format!("link {}", String::from_utf8(target).unwrap()), links)
                }
                ToWriter::Special { name, links, .. } => (name, "special".to_owned(), links),
                other => panic!("{other:?}"),
            };
            next += 1;
            let thing = Thing::Other(what, next);
            if links > 1 {
                shared.push(thing.clone());
            }
            tree.insert(format!("{}/{}", at.join("/"), String::from_utf8(name).unwrap()), thing);
            Ok(())
        })
        .unwrap();
    tree
}

/// Numbers of hard-link groups in the order of their first names.
fn renumbered(tree: Tree) -> Tree {
    let mut numbers = BTreeMap::new();
    tree.into_iter()
        .map(|(path, thing)| match thing {
            Thing::Other(what, number) => {
                let count = numbers.len() as u32;
                (path, Thing::Other(what, *numbers.entry(number).or_insert(count)))
            }
            directory => (path, directory),
        })
        .collect()
}

#[derive(Clone, Debug)]
enum Said {
    Directory,
    File,
    Symlink(&'static str),
    Hardlink(String),
    Fifo,
    Whiteout,
    Opaque,
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "l"]), 1..4)
        .prop_map(|parts| parts.join("/"))
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        3 => Just(Said::Directory),
        4 => Just(Said::File),
        2 => prop::sample::select(vec!["a", "/a/b", "../b", "b", "/", "/nowhere", "l"]).prop_map(Said::Symlink),
        2 => path().prop_map(Said::Hardlink),
        1 => Just(Said::Fifo),
        2 => Just(Said::Whiteout),
        1 => Just(Said::Opaque),
    ]
}

type Script = Vec<Vec<(String, Said)>>;

fn script() -> impl Strategy<Value = Script> {
    prop::collection::vec(prop::collection::vec((path(), said()), 0..8), 1..5)
}

/// The layers as they are after reading them from the top down with the filter: contents
/// that it leaves out have no number yet.
fn layers(script: &Script, filtered: bool) -> (Vec<Layer>, BTreeMap<Origin, u32>) {
    let mut filter = Filter::default();
    let mut layers: Vec<Layer> = Vec::new();
    let mut left_out = BTreeMap::new();
    let mut time = 0;
    for (number, entries) in script.iter().enumerate().rev() {
        if number == 0 {
            filter.begin_base();
        }
        let mut layer = Layer::default();
        for (record, (path, said)) in entries.iter().enumerate() {
            time += 1;
            let meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime: time, xattrs: 0 };
            let what = match said {
                Said::Directory => What::Directory,
                Said::File => What::File(Some(time)),
                Said::Symlink(target) => What::Symlink(target.as_bytes()),
                Said::Hardlink(target) => What::Hardlink(target.as_bytes()),
                Said::Fifo => What::Special(Special::Fifo),
                Said::Whiteout => What::Whiteout,
                Said::Opaque => What::Opaque,
            };
            let needed = filter.see(path.as_bytes(), &what);
            let what = match what {
                What::File(_) if filtered && !needed => {
                    left_out.insert(Origin { layer: number as u16, record: record as u32 }, time);
                    What::File(None)
                }
                what => what,
            };
            layer.push(Item { path: path.as_bytes(), meta, what }).unwrap();
        }
        filter.end_layer();
        layers.push(layer);
    }
    layers.reverse();
    (layers, left_out)
}

/// An image of one layer, in which paths that end with `/` are directories.
pub(super) fn image_of<'a>(files: impl Iterator<Item = (&'a str, Meta)>) -> Image {
    let mut layer = Layer::default();
    for (path, meta) in files {
        let what = if path.ends_with('/') { What::Directory } else { What::File(Some(0)) };
        layer.push(Item { path: path.trim_end_matches('/').as_bytes(), meta, what }).unwrap();
    }
    Image::of([layer], named).unwrap()
}

fn named(number: usize) -> String {
    format!("{number}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn layers_make_what_an_unpacker_makes_of_them(script in script()) {
        let (layers, _) = layers(&script, false);
        let expected = model(&layers).map(renumbered);
        let image = Image::of(layers, named).ok();
        prop_assert_eq!(image.map(|i| renumbered(sent(&i))), expected);
    }

    #[test]
    fn what_the_filter_wrongly_left_out_is_noticed(script in script()) {
        let (layers, left_out) = layers(&script, true);
        let expected = model(&layers).map(renumbered);
        if let Ok(mut image) = Image::of(layers, named) {
            for missing in image.missing() {
                image.found(missing, left_out[&missing.origin]);
            }
            prop_assert_eq!(image.missing(), vec![]);
            prop_assert_eq!(Some(renumbered(sent(&image))), expected);
        }
    }
}

fn made(script: &[&[(&str, Said)]]) -> Result<BTreeMap<String, String>> {
    let script = script
        .iter()
        .map(|l| l.iter().map(|(p, s)| ((*p).to_owned(), s.clone())).collect())
        .collect();
    let (layers, _) = layers(&script, false);
    let tree = sent(&Image::of(layers, named)?);
    Ok(tree
        .into_iter()
        .map(|(path, thing)| match thing {
            Thing::Directory(_) => (path, "dir".to_owned()),
            Thing::Other(what, _) => (path, what.split(' ').next().unwrap().to_owned()),
        })
        .collect())
}

fn paths(script: &[&[(&str, Said)]]) -> Vec<String> {
    made(script).unwrap().into_iter().map(|(path, what)| format!("{path} {what}")).collect()
}

#[test]
fn a_whiteout_and_a_new_file_of_the_name_in_one_layer_leave_the_file_in_either_order() {
    let base: &[_] = &[("d/a", Said::File), ("d/b", Said::File)];
    for top in
        [[("d", Said::Whiteout), ("d/a", Said::File)], [("d/a", Said::File), ("d", Said::Whiteout)]]
    {
        assert_eq!(paths(&[base, &top]), ["/d dir", "/d/a file"]);
    }
}

#[test]
fn a_name_below_a_symbolic_link_goes_where_the_link_points() {
    let base: &[_] = &[("usr/lib", Said::Directory), ("lib", Said::Symlink("usr/lib"))];
    let made = paths(&[base, &[("lib/x", Said::File)]]);
    assert_eq!(made, ["/lib link", "/usr dir", "/usr/lib dir", "/usr/lib/x file"]);
}

#[test]
fn a_link_whose_other_name_is_deleted_keeps_the_file() {
    let script: [&[_]; 3] =
        [&[("a", Said::File)], &[("b", Said::Hardlink("a".into()))], &[("a", Said::Whiteout)]];
    assert_eq!(paths(&script), ["/b file"]);
}

#[test]
fn a_hard_link_to_nothing_names_layer_and_path() {
    let error =
        made(&[&[("x", Said::Directory)], &[("d/b", Said::Hardlink("gone".into()))]]).unwrap_err();
    assert_eq!(error.what(), "layer 1: d/b: a hard link to gone, which is not there");
}

#[test]
fn the_images_own_description_is_replaced_by_ours() {
    let script = vec![vec![(".shifter/evil".to_owned(), Said::File), ("x".to_owned(), Said::File)]];
    let (layers, _) = layers(&script, false);
    let mut image = Image::of(layers, named).unwrap();
    let mut names = Vec::new();
    image.describe(7).unwrap();
    image
        .send(&Extras::default(), |message| {
            match message {
                ToWriter::Enter { name, .. } | ToWriter::File { name, .. } => {
                    names.push(String::from_utf8(name).unwrap());
                }
                _ => {}
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(names, ["", ".shifter", "image.json", "x"]);
}
