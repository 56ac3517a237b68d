// Package artifact answers whether a file will start on a target, and why not: programs,
// libraries and scripts, alone or in folders and archives, against what is known of a
// system. It runs nothing and reaches no network.
package artifact

import (
	"sync"

	"github.com/stead-env/stead/envs/artifact/loader"
	"github.com/stead-env/stead/envs/artifact/system"
	"github.com/stead-env/stead/envs/lock"
)

// Verdict is the answer for one file on one target.
type Verdict string

// The three verdicts there are.
const (
	Starts   Verdict = "starts"
	Fails    Verdict = "fails"
	Unproven Verdict = "unproven" // what could not be known is told
)

// Target is a system to judge for. It is used by its address.
type Target struct {
	Name string // for people: "acme@3", "/"
	// Env is what the env is called that one can build in for it: "acme"; "" where there is
	// none, and where what is judged was built there.
	Env    string
	System loader.System
	// Host are the facts of its lock: its kernel and processor may be unknown.
	Host  lock.Host
	Facts system.Facts

	once      sync.Once
	session   *loader.Session
	versions  map[string][]system.Package // by name
	providers map[string][]int            // of Facts.Packages, by what they provide
}

// Answer is the verdict on one file for one target.
type Answer struct {
	Target  string   `json:"target"`
	File    string   `json:"file"`
	Kind    string   `json:"kind"` // program, library, static program, script, module, package, other
	Verdict Verdict  `json:"verdict"`
	Reasons []Reason `json:"reasons,omitempty"`
	// Into is the program that a module was judged in, as one of its own.
	Into string `json:"into,omitempty"`
	Now  bool   `json:"bindsNow,omitempty"` // which binds all of its symbols at once
	// Travels are the files of the artifact that it loads, which have to be shipped too.
	Travels []string `json:"travels,omitempty"`
	// Needs is what it takes from the target.
	Needs []Need `json:"needs,omitempty"`
}

// Reason is one thing that a verdict rests on.
type Reason struct {
	Verdict Verdict `json:"verdict"` // that it leads to: fails or unproven; starts for a remark
	Kind    string  `json:"kind"`    // loader.Kind, or kernel, cpu, dlopen, interpreter, module-abi, depends, …
	Text    string  `json:"text"`    // for people, whole

	By      string   `json:"by,omitempty"` // the file whose need it is
	Library string   `json:"library,omitempty"`
	Symbol  string   `json:"symbol,omitempty"`
	Symbols []string `json:"symbols,omitempty"` // all, where there are several
	Version string   `json:"version,omitempty"`
	Found   string   `json:"found,omitempty"`   // the file on the target that lacks it
	Package string   `json:"package,omitempty"` // that this file comes from there
	// When is load, or call for what only fails once it is called.
	When string   `json:"when,omitempty"`
	Ways []string `json:"ways,omitempty"` // what to do, the best first
	// Elsewhere is where what is missing is: the lowest version of each package first.
	Elsewhere []Elsewhere `json:"elsewhere,omitempty"`
}

// Elsewhere is a place that has what a target lacks.
type Elsewhere struct {
	Release string `json:"release,omitempty"` // of a target: "acme@4"
	Archive string `json:"archive,omitempty"` // of the target's own archives: "debian-bookworm"
	Package string `json:"package,omitempty"`
	Version string `json:"version,omitempty"` // the package's
}

// Need is what a file takes from one library of a target.
type Need struct {
	Library  string   `json:"library"` // soname
	Path     string   `json:"path,omitempty"`
	Package  string   `json:"package,omitempty"`
	Versions []string `json:"versions,omitempty"`
	Symbols  []string `json:"symbols,omitempty"` // without a version
}
