// Package tools chooses the packages that a project builds with: those that fit a
// frozen base without replacing, upgrading or removing any of it. It fetches nothing
// and installs nothing.
package tools

import "github.com/stead-env/stead/envs/lock"

// Relations are what a package says about others, as its control file has them:
// deb-control(5).
type Relations struct {
	MultiArch  string // "same", "foreign", "allowed", or "" for none
	PreDepends string
	Depends    string
	Conflicts  string
	Breaks     string
	Replaces   string
	Provides   string
	Recommends string
}

// Installed is a package of the base.
type Installed struct {
	Name, Version, Architecture string
	// State is the package manager's word for how far it got; only what is installed, or
	// waits for triggers alone, satisfies anybody.
	State string
	Relations
}

// Base is what tools are added to. None of it moves.
type Base struct {
	Name         string   // what messages call it: "acme"
	Architecture string   // the native one: "amd64"
	Foreign      []string // further ones that the package manager was told of
	Packages     []Installed
}

// Candidate is a package that can be added.
type Candidate struct {
	lock.Package
	Relations
	Source string // name of the source package, where it differs
	// Rank orders where candidates of the same version come from, the lowest first.
	Rank int
	// NotAutomatic says that the archive offers it only to those who ask for it, as
	// backports do: it is taken where nothing else fits.
	NotAutomatic bool
}

// Wish is what a project asks for, as stead.toml spells it, and the names of the packages
// any one of which grants it: "gcc", "libssl-dev=1.1.1w-0+deb11u1", "libfoo-dev:i386". A
// name stands for what provides it, too.
type Wish struct {
	Text  string
	AnyOf []string
	// There says that the base grants it already, by a file that no package name tells of.
	There bool
	// By is the chosen package that recommends it, "" where the project asks for it.
	By string
}

// Answer is what was chosen.
type Answer struct {
	// Packages are sorted by name and architecture.
	Packages []Chosen
	// Granted are the wishes, sorted, each with what grants it.
	Granted []Grant
}

// Grant is a wish and the package that grants it; none where the wish said There.
type Grant struct {
	Wish, Name, Version, Architecture string
	Base                              bool // it was there already
}

// Chosen is a package of an answer.
type Chosen struct {
	Candidate
	// Wish is the first wish that it grants, or "", and For are the chosen packages that
	// need it, sorted, each as its name, with ":ARCH" where that isn't the native one.
	Wish string
	For  []string
}
