package envs

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// The forms that a wish for tools can have: gcc, libssl-dev=1.1.1w-0+deb11u1,
// libfoo-dev:i386, pkgconfig:openssl, file:/usr/bin/cmake.
const (
	wishPackage   = "package"
	wishPkgConfig = "pkgconfig"
	wishFile      = "file"
)

// wish is one of stead.toml's tools.
type wish struct {
	text string
	kind string
	// name is a module of pkg-config or an absolute path; of a package it is all of text.
	name string
}

// WishError says that a wish for tools is none.
type WishError struct {
	Wish, Reason string
	meant        string // what may have been meant
}

func (e *WishError) Error() string {
	return fmt.Sprintf("%q is no wish for tools: %s", e.Wish, e.Reason)
}

// Hint says what is one.
func (e *WishError) Hint() string {
	if e.meant != "" {
		return e.meant
	}
	return "a package (gcc, gcc=4:10.2.1-1, libfoo-dev:i386), pkgconfig:MODULE, or file:/PATH"
}

// Names are those of Debian's policy, and of other distributions.
var (
	packageWish = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._-]*(:[a-z0-9-]+)?(=[A-Za-z0-9][A-Za-z0-9.+~:^_-]*)?$`)
	moduleWish  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9+._-]*$`)
)

// maxWish bounds a wish, in bytes.
const maxWish = 512

// parseWish reads a wish. The error is a *WishError.
func parseWish(text string) (wish, error) {
	bad := func(reason string) (wish, error) { return wish{}, &WishError{Wish: text, Reason: reason} }
	if len(text) > maxWish {
		return bad("it is too long")
	}
	if name, ok := strings.CutPrefix(text, wishPkgConfig+":"); ok {
		if !moduleWish.MatchString(name) {
			return bad("pkgconfig: stands before the name of a module")
		}
		return wish{text, wishPkgConfig, name}, nil
	}
	if name, ok := strings.CutPrefix(text, wishFile+":"); ok {
		switch {
		case !path.IsAbs(name) || path.Clean(name) != name || name == "/":
			return bad("file: stands before an absolute path")
		case strings.ContainsAny(name, "*?[]\\\n\t\x00"):
			return bad("a path has no pattern in it")
		}
		return wish{text, wishFile, name}, nil
	}
	if name, arch, ok := splitArch(text); ok && !architectures[arch] {
		return wish{}, otherForm(text, name, arch)
	}
	if !packageWish.MatchString(text) {
		return bad("it isn't the name of a package")
	}
	return wish{text, wishPackage, text}, nil
}

// splitArch splits a wish at what stands for an architecture, which may be misplaced.
func splitArch(text string) (name, arch string, ok bool) {
	name, arch, ok = strings.Cut(text, ":")
	if !ok || strings.Contains(name, "=") { // an epoch
		return name, "", false
	}
	arch, _, _ = strings.Cut(arch, "=")
	return name, arch, arch != ""
}

// otherForm is the error for a wish with a colon before what no architecture is called.
func otherForm(text, name, arch string) error {
	e := &WishError{Wish: text, Reason: fmt.Sprintf("there is no architecture %q", arch)}
	rest := text[len(name)+1:]
	kind := strings.NewReplacer("-", "", "_", "", ".", "").Replace(strings.ToLower(name))
	form := ""
	switch kind {
	case "pkgconfig", "pkgconf", "pkgcfg", "pc", "module":
		form = wishPkgConfig + ":" + strings.TrimSuffix(rest, ".pc")
	case "file", "files", "path", "bin", "program":
		form = wishFile + ":" + rest
	case "package", "pkg", "apt", "deb", "dpkg", "debian":
		form = rest
	default:
		for _, k := range slices.Sorted(maps.Keys(architectures)) {
			if near(arch, k) {
				form = name + ":" + k + strings.TrimPrefix(rest, arch)
			}
		}
		if strings.HasPrefix(rest, "/") {
			form = wishFile + ":" + rest
		}
	}
	if form != "" && form != text && CheckWish(form) == nil {
		e.meant = "perhaps " + form
	}
	if strings.HasPrefix(rest, "/") || form != "" && !strings.HasPrefix(form, name+":") {
		e.Reason = fmt.Sprintf("%s: is no kind of wish", name)
	}
	return e
}

// near reports whether a name may have been meant by another one: a letter too few, too
// many or another one, or two that changed places.
func near(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	x, y := a[i:], b[i:]
	switch {
	case len(b)-len(a) > 1:
		return false
	case len(b) > len(a):
		return x == y[1:]
	}
	return x == "" || x[1:] == y[1:] || len(x) > 1 && x[0] == y[1] && x[1] == y[0] && x[2:] == y[2:]
}

// architectures are those of Debian and its ports, and what stands for several.
var architectures = map[string]bool{"all": true, "any": true, "native": true, "alpha": true, "amd64": true, "arc": true, "arm64": true,
	"armel": true, "armhf": true, "hppa": true, "hurd-amd64": true, "hurd-i386": true, "i386": true, "ia64": true,
	"kfreebsd-amd64": true, "kfreebsd-i386": true, "loong64": true, "m68k": true, "mips": true, "mips64el": true, "mipsel": true,
	"powerpc": true, "powerpcspe": true, "ppc64": true, "ppc64el": true, "riscv64": true, "s390": true, "s390x": true,
	"sh4": true, "sparc": true, "sparc64": true, "x32": true}

// parseWishes reads a list of wishes. Of one that comes twice the first counts.
func parseWishes(texts []string) ([]wish, error) {
	var list []wish
	for _, text := range texts {
		w, err := parseWish(text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(list, w) {
			list = append(list, w)
		}
	}
	return list, nil
}

// CheckWish reports whether text can be a wish for tools. The error is a *WishError.
func CheckWish(text string) error {
	_, err := parseWish(text)
	return err
}

// checkWishes checks a list of stead.toml.
func checkWishes(file, text string, table toml.Key, wishes []string) error {
	if _, err := parseWishes(wishes); err != nil {
		key := append(slices.Clone(table), "tools")
		return &SyntaxError{Path: file, Line: keyLine(text, key), Text: key.String() + ": " + err.Error()}
	}
	return nil
}

// sameWishes reports whether two lists ask for the same, in whatever order.
func sameWishes(a, b []string) bool {
	sorted := func(l []string) []string { return slices.Compact(slices.Sorted(slices.Values(l))) }
	return slices.Equal(sorted(a), sorted(b))
}

// pkgConfigDirs are the folders in which an env's pkg-config looks for a module.
func pkgConfigDirs(arch string) []string {
	dirs := []string{"usr/lib/pkgconfig", "usr/lib64/pkgconfig", "usr/share/pkgconfig"}
	if triplet := multiarch[arch]; triplet != "" {
		dirs = append(dirs, "usr/lib/"+triplet+"/pkgconfig")
	}
	return dirs
}

// multiarch are Debian's names of the folders for an architecture's libraries, from
// dpkg-architecture(1).
var multiarch = map[string]string{
	"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "armel": "arm-linux-gnueabi", "armhf": "arm-linux-gnueabihf",
	"i386": "i386-linux-gnu", "mips64el": "mips64el-linux-gnuabi64", "mipsel": "mipsel-linux-gnu", "ppc64el": "powerpc64le-linux-gnu",
	"riscv64": "riscv64-linux-gnu", "s390x": "s390x-linux-gnu",
}

// places are the paths that grant a wish, without the leading slash: each one that a
// package may spell it by. A package name has none.
func (w wish) places(arch string) []string {
	switch w.kind {
	case wishPkgConfig:
		var list []string
		for _, dir := range pkgConfigDirs(arch) {
			list = append(list, dir+"/"+w.name+".pc")
		}
		return list
	case wishFile:
		name := strings.TrimPrefix(w.name, "/")
		list := []string{name}
		if rest, ok := strings.CutPrefix(name, "usr/"); ok && inMerged(rest) {
			list = append(list, rest)
		} else if inMerged(name) {
			list = append(list, "usr/"+name)
		}
		return list
	}
	return nil
}

// inMerged reports whether a path is in a folder that a merged /usr has a link for.
func inMerged(name string) bool {
	top, _, _ := strings.Cut(name, "/")
	return top == "bin" || top == "sbin" || strings.HasPrefix(top, "lib")
}
