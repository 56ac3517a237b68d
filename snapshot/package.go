package snapshot

// Package is one installed package as the host's own database records it.
type Package struct {
	Name         string
	Version      string
	Architecture string // "amd64", "all"
	Source       string // source package, where it differs from Name
	// Want is what the administrator wants of it ("install", "hold", …) and State
	// how far it got ("installed", "half-configured", …), in the database's words.
	Want  string
	State string
	// Broken packages are marked by the database as needing to be installed again.
	Broken bool
	// MultiArch says that several architectures of it can be installed side by side
	// (dpkg's Multi-Arch: same).
	MultiArch bool
	Automatic bool // installed as a dependency, not by wish

	// Files are the paths it owns, as the database spells them but for the leading
	// slash: a host with a merged /usr has both "bin/ls" and "usr/bin/cp" here.
	Files []string
	// Records are the database's own files about this package that equal members of
	// the package file, by member name ("postinst": "var/lib/dpkg/info/bash.postinst").
	Records map[string]string
	// MD5 are the contents that the package brought, by path as in Files, in
	// lower-case hex; nil where the database has none.
	MD5       map[string]string
	Conffiles []Conffile
	// Control is the package's own description, as its package file would carry it:
	// needed to make the package again from the host's files.
	Control []byte
}

// Conffile is a configuration file that the package manager leaves to the
// administrator.
type Conffile struct {
	Path            string // without the leading slash
	MD5             string // of the content that the package brought; "" if none
	Obsolete        bool
	RemoveOnUpgrade bool
}

// Diversion is a path that a package's file was moved away from.
type Diversion struct {
	From string // as the diverted package names it, without the leading slash
	To   string // where its file went
	By   string // the package whose own file stays at From; "" for a local diversion
}

// Database is what a package manager knows of a host.
type Database struct {
	System     string // "dpkg"
	Packages   []Package
	Diversions []Diversion
	// Libc is the C library as the lock writes it, such as "glibc 2.31".
	Libc string
	// Architecture is the native one of the host, in the system's own words.
	Architecture string
	// Foreign are further ones that the system was told of.
	Foreign []string
}

// Reader reads the database of one package manager.
type Reader interface {
	// System names the package manager: "dpkg".
	System() string
	// Roots are the folders that hold its database, without leading slashes.
	Roots() []string
	// Wants reports whether Read needs the content of a file below one of Roots.
	Wants(path string) bool
	// Read parses the database out of the content of those files. It returns nil
	// and no error where this package manager isn't there.
	Read(content map[string][]byte) (*Database, error)
}
