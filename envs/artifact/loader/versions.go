package loader

import (
	"strings"

	"github.com/stead-env/stead/envs/artifact/object"
	"github.com/stead-env/stead/envs/artifact/system"
)

// relrVersion is the version that stands for DT_RELR: a C library that defines it takes it.
const relrVersion = "GLIBC_ABI_DT_RELR"

// versions checks what an object needs by version, called or not: it has to be defined by
// the object that goes by the file's name, whatever the symbols later bind to.
func (k *link) versions(by *Mapped) {
	for _, r := range by.Object.Requirements {
		if k.missing[r.File] {
			continue
		}
		in := k.named[r.File]
		if in == nil {
			k.problem(Problem{Kind: MissingVersion, By: by, Library: r.File,
				Version: firstVersion(r), Reason: "versions are needed of it, and nothing that is loaded goes by that name"})
			continue
		}
		if len(in.Object.Definitions) == 0 {
			k.problem(Problem{Kind: MissingVersion, By: by, Library: r.File,
				Version: firstVersion(r), Found: in, Reason: "it has no versions", Harmless: true})
			continue
		}
		defined := k.definitions(in.Object, len(r.Versions))
		for _, v := range r.Versions {
			if !defined(v.Name) {
				k.problem(Problem{Kind: MissingVersion, By: by, Library: r.File,
					Version: v.Name, Found: in, Harmless: v.Weak})
			}
		}
	}
}

// definitions says which versions an object defines, for a number of questions.
func (k *link) definitions(o *object.Object, questions int) func(version string) bool {
	if len(o.Definitions)*questions < 1<<12 {
		return func(version string) bool { return defines(o.Definitions, version) }
	}
	set := make(map[string]bool, len(o.Definitions))
	for _, d := range o.Definitions {
		set[d.Name] = true
	}
	return func(version string) bool { return set[version] }
}

func firstVersion(r object.Requirement) string {
	if len(r.Versions) == 0 {
		return ""
	}
	return r.Versions[0].Name
}

// defines says whether a version is among an object's own: its base counts, too.
func defines(defs []object.Definition, version string) bool {
	for i := range defs {
		if defs[i].Name == version {
			return true
		}
	}
	return false
}

// relr checks DT_RELR: a loader that doesn't know it leaves the object unrelocated and says
// nothing; one that does wants the version that says so, of whoever needs the C library.
func (k *link) relr(by *Mapped) {
	o := by.Object
	if !o.RELR || by.itself || o.Soname == "libc.so.6" { // they relocate themselves, or know
		return
	}
	if k.loader.Family == system.Musl {
		if k.before(1, 3) && (k.before(1, 2) || k.patch() < 4) {
			k.problem(Problem{Kind: BadRELR, By: by,
				Reason: "musl takes DT_RELR from 1.2.4 on"})
		}
		return
	}
	asks := false
	for _, r := range o.Requirements {
		for _, v := range r.Versions {
			asks = asks || v.Name == relrVersion
		}
	}
	if asks { // whether it is there was checked with the other versions
		return
	}
	if !k.takesRELR() {
		k.problem(Problem{Kind: BadRELR, By: by,
			Reason: "this C library doesn't take DT_RELR"})
		return
	}
	for _, n := range o.Needed {
		if strings.HasPrefix(n, "libc.so.") && len(o.Requirements) > 0 {
			k.problem(Problem{Kind: BadRELR, By: by,
				Reason: "it has DT_RELR without needing " + relrVersion})
			return
		}
	}
}

// takesRELR says whether glibc knows DT_RELR: its version tells, and where it was ported
// back, its definitions do.
func (k *link) takesRELR() bool {
	libc := k.named["libc.so.6"]
	if libc == nil {
		return !k.before(2, 36)
	}
	return defines(libc.Object.Definitions, relrVersion)
}

// patch is the third number of the C library's version.
func (k *link) patch() int {
	parts := strings.SplitN(k.loader.Version, ".", 3)
	if len(parts) < 3 {
		return 0
	}
	return parseVersion(parts[2])[0]
}
