package image

import (
	"fmt"
	"strings"

	"github.com/stead-env/stead/envs/store"
	"github.com/stead-env/stead/snapshot"
)

// Proof compares a package file with what is installed.
type Proof struct {
	// Unsettled are the host's records about the package, where their sizes are the
	// package file's: their content has to tell. Times don't: who builds a package
	// again gets those of its changelog. Path and digest are the package file's.
	Unsettled store.Manifest
	// Differs names what shows that the package file isn't the one installed; "" when
	// nothing does.
	Differs string
}

// Prove compares the tree of a package file with the host that has the package
// installed. A package is what its records say: the scripts, lists and sums that
// its build wrote. Where it brings no sums, its files are compared one by one.
func Prove(m store.Manifest, pkg snapshot.Package, inv *snapshot.Inventory) Proof {
	var p Proof
	records := 0
	for _, f := range m {
		if !isRecord(f) {
			continue
		}
		records++
		e, ok := inv.Lookup(f.Path)
		switch {
		case !ok || e.Type != snapshot.Regular || e.Size != f.Size:
			p.Differs = fmt.Sprintf("/%s isn't the package's", f.Path)
			return p
		default:
			p.Unsettled = append(p.Unsettled, f)
		}
	}
	for member, record := range pkg.Records {
		if _, ok := m.Lookup(record); !ok && member != "md5sums" { // dpkg makes sums where there are none
			p.Differs = fmt.Sprintf("the package brings no %s", member)
			return p
		}
	}
	if _, ok := pkg.Records["md5sums"]; !ok || records == 0 || !brings(m, pkg.Records["md5sums"]) {
		p.Differs = compareFiles(m, pkg, inv)
	}
	return p
}

func isRecord(f snapshot.File) bool {
	return f.Type == snapshot.Regular && strings.HasPrefix(f.Path, "var/lib/dpkg/info/")
}

func brings(m store.Manifest, record string) bool {
	_, ok := m.Lookup(record)
	return ok
}

// compareFiles names the first file of the package that the host has in another
// form, but for configuration and what was diverted.
func compareFiles(m store.Manifest, pkg snapshot.Package, inv *snapshot.Inventory) string {
	skip := map[string]bool{}
	for _, c := range pkg.Conffiles {
		skip[c.Path] = true
	}
	for _, d := range inv.Database.Diversions {
		skip[d.From] = true
	}
	links := snapshot.NewLinks(inv.Links)
	for _, f := range m {
		if f.Type != snapshot.Regular || skip[f.Path] || isRecord(f) {
			continue
		}
		p, err := links.Path(f.Path)
		if err != nil {
			return err.Error()
		}
		if e, ok := inv.Lookup(p); ok && (e.Type != snapshot.Regular || e.Size != f.Size || e.MTime != f.MTime) {
			return fmt.Sprintf("/%s isn't the package's", f.Path)
		}
	}
	return ""
}
