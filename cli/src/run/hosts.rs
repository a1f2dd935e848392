//! The adapters of `hosts/`, and how each of them gets into a program.

/// How an adapter gets into a program.
enum Form {
    /// A library to preload.
    Library,
    /// A library to preload, and a change in the program.
    LibraryAnd(&'static str),
    /// A change in the program; nothing is preloaded.
    Change(&'static str),
}

struct Adapter {
    /// The name after `libaioshim_`, then other names that users may give.
    names: &'static [&'static str],
    /// Its folder in `hosts/`.
    folder: &'static str,
    form: Form,
}

const ADAPTERS: [Adapter; 9] = [
    Adapter {
        names: &["st", "state-threads"],
        folder: "state-threads",
        form: Form::Library,
    },
    Adapter {
        names: &["pth"],
        folder: "pth",
        form: Form::Library,
    },
    Adapter {
        names: &["boost_fiber", "boost-fiber", "boost"],
        folder: "boost-fiber",
        form: Form::Library,
    },
    Adapter {
        names: &["greenlet", "gevent"],
        folder: "greenlet",
        form: Form::LibraryAnd("the program calls aioshim_gevent.patch()"),
    },
    Adapter {
        names: &["ruby"],
        folder: "ruby",
        form: Form::LibraryAnd("the program calls Fiber.set_scheduler(AIOShim::Scheduler.new)"),
    },
    Adapter {
        names: &["php"],
        folder: "php",
        form: Form::LibraryAnd("the program calls AIOShim\\spawn and AIOShim\\run"),
    },
    Adapter {
        names: &["lua"],
        folder: "lua",
        form: Form::Change("the program calls aioshim.spawn and aioshim.run"),
    },
    Adapter {
        names: &["perl", "coro"],
        folder: "perl",
        form: Form::Change("the program says `use Coro::AIOShim`"),
    },
    Adapter {
        names: &["may"],
        folder: "may",
        form: Form::Change("the program calls aioshim_may::start()"),
    },
];

fn find(name: &str) -> Option<&'static Adapter> {
    ADAPTERS
        .iter()
        .find(|adapter| adapter.names.contains(&name))
}

/// The name in the file name of the library of the host that the user calls `name`.
pub fn library_name(name: &str) -> &str {
    find(name).map_or(name, |adapter| adapter.names[0])
}

/// The folder in `hosts/` of the host that the user calls `name`.
pub fn folder(name: &str) -> Option<&'static str> {
    find(name).map(|adapter| adapter.folder)
}

/// The advice for a host that has no library to preload.
pub fn instead_of_a_library(name: &str) -> Option<String> {
    let adapter = find(name)?;
    match adapter.form {
        Form::Change(change) => Some(format!(
            "{name}: this host has no library to preload: {change} (hosts/{}/README.md); run it \
             without --host",
            adapter.folder
        )),
        Form::Library | Form::LibraryAnd(_) => None,
    }
}

/// The list for the help of the command.
pub fn help() -> String {
    let mut text = String::from("Hosts (a README in hosts/ describes each):");
    for adapter in &ADAPTERS {
        let does = match adapter.form {
            Form::Library => "nothing changes in the program",
            Form::LibraryAnd(change) => change,
            Form::Change(_) => "needs no --host",
        };
        text += &format!("\n  {:<12} {does}", adapter.names[0]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_adapter_has_its_folder_and_every_folder_its_adapter() {
        let hosts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../hosts");
        let mut folders: Vec<String> = hosts
            .read_dir()
            .expect("hosts/")
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.path().join("README.md").exists())
            .map(|entry| entry.file_name().into_string().expect("UTF-8"))
            .filter(|name| name != "template")
            .collect();
        folders.sort();
        let mut known = ADAPTERS.map(|adapter| adapter.folder);
        known.sort_unstable();
        assert_eq!(folders, known);
    }
}
