//! What a job or step asks for.

mod policy;

use crate::{
    Batch, Config, Digest, Error, GuestPath, Hook, ImageRef, Module, Result, Size, Texts, Volume,
    What, Word, Workdir, after_none, select_modules,
};
pub(crate) use policy::{ELSEWHERE, cache_directory, check_source, protected, protecting};
use policy::{batch, check_image, check_volume, flag, start, writable};

/// What the options, or the job's environment, say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Nothing: the job is none of our business.
    Nothing,
    /// `--image=none`: run on the host, whatever the job's image is.
    Host,
    /// An image.
    Image(Request),
}

/// An image with volumes and modules, checked against the site's policy.
///
/// [`Request::parse`] is the only way to make one. It is made again from text wherever the
/// text may have been changed: in slurmctld and on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    image: ImageRef,
    volumes: Vec<Volume>,
    modules: Vec<String>,
    writable: Option<Size>,
    batch: bool,
    entrypoint: bool,
    start: Option<Start>,
}

/// Where ranks start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// In the job's directory, if it is there inside, else `/tmp`, as Slurm has it.
    Job,
    /// In the image's, if it names one.
    Image,
    /// There.
    At(GuestPath),
}

impl Request {
    /// Parses the words as options and environment carry them. Empty ones count as absent.
    pub fn parse(texts: &Texts, site: &Config) -> Result<Ask> {
        let image = match texts.text(Word::Image) {
            "" => {
                return match texts.given().find(|(_, text)| !text.is_empty()) {
                    None => Ok(Ask::Nothing),
                    Some((word, _)) => {
                        Err(Error::user(format!("--{} needs an image", word.option()))
                            .hint("add --image=NAME:TAG"))
                    }
                };
            }
            "none" => return Ok(Ask::Host),
            name => check_image(ImageRef::parse(name, &site.names())?, site)?,
        };
        let volumes = match texts.text(Word::Volume) {
            "" => Vec::new(),
            list => Volume::in_order(Volume::parse_list(list, site)?)?,
        };
        let asked = after_none(texts.text(Word::Module));
        let modules = asked.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
        let writable = writable(texts.text(Word::Writable), site)?;
        let batch = batch(texts.text(Word::Batch), site)?;
        let entrypoint = flag(Word::Entrypoint, texts.text(Word::Entrypoint))?;
        let start = start(texts.text(Word::Workdir))?;
        let request = Self { image, volumes, modules, writable, batch, entrypoint, start };
        if request.volumes.len() > site.limits.volumes {
            let (asked, most) = (request.volumes.len(), site.limits.volumes);
            return Err(Error::user(format!(
                "--volume: {asked} volumes, and this site allows {most}"
            ))
            .hint("mount a directory above several of them"));
        }
        let protected = protected(site, &request.modules(site)?);
        for volume in &request.volumes {
            check_volume(volume, site, &protected)?;
        }
        Ok(Ask::Image(request))
    }

    /// The image.
    pub fn image(&self) -> &ImageRef {
        &self.image
    }

    /// The volumes, in the order in which they are mounted.
    pub fn volumes(&self) -> &[Volume] {
        &self.volumes
    }

    /// The site's modules for this request, in order, with what they require.
    pub fn modules<'a>(&self, site: &'a Config) -> Result<Vec<(String, &'a Module)>> {
        let names = select_modules(&self.modules, &site.modules)?;
        Ok(names.into_iter().filter_map(|n| site.modules.get(&n).map(|m| (n, m))).collect())
    }

    /// Accounts that shall be known inside, besides root and the user.
    pub fn accounts(&self, site: &Config) -> Result<Vec<String>> {
        let mut accounts = site.etc.users.clone();
        for (_, module) in self.modules(site)? {
            accounts.extend(module.users.iter().cloned());
        }
        accounts.sort();
        accounts.dedup();
        Ok(accounts)
    }

    /// What the modules run inside as the user, before the ranks' commands: each with its module.
    pub fn user_hooks(&self, site: &Config) -> Result<Vec<(String, Hook)>> {
        let modules = self.modules(site)?;
        let of = |(name, module): (String, &Module)| {
            let hooks = module.hooks.user.clone().into_iter();
            hooks.map(move |hook| (name.clone(), hook))
        };
        Ok(modules.into_iter().flat_map(of).collect())
    }

    /// How much may be written into the image, if anything.
    pub fn writable(&self) -> Option<Size> {
        self.writable
    }

    /// Whether the batch script runs inside.
    pub fn batch_enters(&self, site: &Config) -> bool {
        match site.inside.batch {
            Batch::Never => false,
            Batch::Ask => self.batch,
            Batch::Always => true,
        }
    }

    /// Whether ranks run by the image's entrypoint, with their command as its arguments.
    pub fn entrypoint(&self) -> bool {
        self.entrypoint
    }

    /// Where ranks start, if the user said so.
    pub fn start(&self) -> Option<&Start> {
        self.start.as_ref()
    }

    /// Where ranks start: as the user said, else as the site says.
    pub fn start_at(&self, site: &Config) -> Start {
        self.start.clone().unwrap_or(match site.inside.workdir {
            Workdir::Job => Start::Job,
            Workdir::Image => Start::Image,
        })
    }

    /// Variables of the job's environment that its volumes name, each once.
    pub fn variables(&self) -> Vec<&str> {
        let hosts = self.volumes.iter().filter_map(|volume| match &volume.what {
            What::Host(path) => Some(path.variables()),
            _ => None,
        });
        let mut names: Vec<&str> = hosts.flatten().collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The data images among the volumes, each with its volume.
    pub fn data_images(&self) -> impl Iterator<Item = (&Volume, &ImageRef)> {
        self.volumes.iter().filter_map(|volume| match &volume.what {
            What::Image(image) => Some((volume, image)),
            _ => None,
        })
    }

    /// The same request with its image pinned to `digest`.
    #[must_use]
    pub fn pinned(&self, digest: &Digest) -> Self {
        Self { image: self.image.pinned(digest), ..self.clone() }
    }

    /// The same request with its data images pinned to what `find` says they mean.
    pub fn data_pinned(
        &self,
        mut find: impl FnMut(&Volume, &ImageRef) -> Result<Digest>,
    ) -> Result<Self> {
        let mut request = self.clone();
        for volume in &mut request.volumes {
            if let What::Image(image) = &volume.what {
                volume.what = What::Image(image.pinned(&find(volume, image)?));
            }
        }
        Ok(request)
    }

    /// The request as the job environment carries it: every word, empty ones too, so that a
    /// step's request replaces all of its job's. Parsing it gives the same request.
    pub fn to_texts(&self) -> Texts {
        let volumes: Vec<String> = self.volumes.iter().map(Volume::to_string).collect();
        let mut texts = Texts::default();
        let flag = |is_set| if is_set { "1".into() } else { String::new() };
        for (word, text) in [
            (Word::Image, self.image.to_string()),
            (Word::Volume, volumes.join(";")),
            (Word::Module, self.modules.join(",")),
            (Word::Writable, self.writable.map(|size| size.to_string()).unwrap_or_default()),
            (Word::Batch, flag(self.batch)),
            (Word::Entrypoint, flag(self.entrypoint)),
            (Word::Workdir, self.start.as_ref().map(Start::to_string).unwrap_or_default()),
        ] {
            texts.set(word, Some(text));
        }
        texts
    }

    /// One line that is the same for the same inside, however it was typed. What runs there, and
    /// where it starts, is no part of it.
    pub fn identity(&self) -> String {
        let texts = self.to_texts();
        let parts = texts.given().filter(|(word, _)| word.shapes_the_inside());
        parts
            .map(|(word, text)| format!("{}={text:?}", word.variable()))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl std::fmt::Display for Start {
    /// As `--image-workdir` takes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Job => f.write_str("job"),
            Self::Image => f.write_str("image"),
            Self::At(path) => path.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
