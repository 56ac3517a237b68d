package lock

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Write spells the lock in its one way: keys in a fixed order, packages sorted by
// name, architecture and version, what isn't known left out, one newline at the
// end. The same content gives the same bytes on every machine.
func (l *Lock) Write() []byte {
	var w writer
	w.number("version", int64(l.Version))
	w.str("take", l.Take)
	w.table("release")
	w.str("target", l.Release.Target)
	w.number("number", int64(l.Release.Number))
	w.time("created", l.Release.Created)
	w.str("parent", string(l.Release.Parent))
	w.str("origin", l.Release.Origin)
	w.host(l.Host)
	w.kernel(l.Kernel)
	for _, a := range sortedArchives(l.Archives) {
		w.archive(a)
	}
	for _, p := range sortedPackages(l.Packages) {
		w.pkg(p)
	}
	if l.Take != TakeIndex {
		w.table("delta")
		w.str("sha256", l.Delta.SHA256)
		w.number("size", l.Delta.Size)
		w.number("files", int64(l.Delta.Files))
	}
	w.attachment("index", l.Index)
	w.attachment("review", l.Review)
	if l.Take != TakeIndex {
		w.table("rootfs")
		w.str("digest", l.Rootfs.Digest)
	}
	return w.b.Bytes()
}

func sortedArchives(a []Archive) []Archive {
	a = slices.Clone(a)
	slices.SortFunc(a, func(x, y Archive) int { return cmp.Compare(x.Name, y.Name) })
	return a
}

func sortedPackages(p []Package) []Package {
	p = slices.Clone(p)
	slices.SortFunc(p, func(x, y Package) int {
		return cmp.Or(cmp.Compare(x.Name, y.Name), cmp.Compare(x.Architecture, y.Architecture), cmp.Compare(x.Version, y.Version))
	})
	return p
}

type writer struct{ b bytes.Buffer }

func (w *writer) host(h Host) {
	w.table("host")
	w.str("id", h.ID)
	w.str("version", h.Version)
	w.str("codename", h.Codename)
	w.str("architecture", h.Architecture)
	w.str("libc", h.Libc)
	w.str("kernel", h.Kernel)
	w.str("cpu", h.CPU)
	w.str("umask", h.Umask)
	w.str("locale", h.Locale)
	w.str("timezone", h.Timezone)
	if h.NoFile != 0 {
		w.number("nofile", int64(h.NoFile))
	}
}

func (w *writer) kernel(k *Kernel) {
	if k == nil || k.Version == "" && len(k.SystemCalls) == 0 {
		return
	}
	w.table("kernel")
	w.str("version", k.Version)
	if len(k.SystemCalls) == 0 {
		return
	}
	names := slices.Sorted(slices.Values(k.SystemCalls))
	w.key("system-calls")
	w.b.WriteString("[\n") // a line for each: people see which one came
	for _, name := range slices.Compact(names) {
		w.b.WriteString("  ")
		quote(&w.b, name)
		w.b.WriteString(",\n")
	}
	w.b.WriteString("]\n")
}

func (w *writer) archive(a Archive) {
	w.list("archive")
	w.str("name", a.Name)
	w.str("uri", a.URI)
	w.str("suite", a.Suite)
	w.str("inrelease", string(a.InRelease))
	w.key("signed-by")
	w.b.WriteByte('[')
	for i, key := range a.SignedBy {
		if i > 0 {
			w.b.WriteString(", ")
		}
		quote(&w.b, key)
	}
	w.b.WriteString("]\n")
	w.time("dated", a.Dated)
}

func (w *writer) pkg(p Package) {
	w.list("package")
	w.str("name", p.Name)
	w.str("version", p.Version)
	w.str("architecture", p.Architecture)
	w.str("archive", p.Archive)
	w.str("path", p.Path)
	w.number("size", p.Size)
	w.str("sha256", p.SHA256)
	w.str("proof", p.Proof)
	w.str("want", p.Want)
	w.str("state", p.State)
	w.str("rootfs", p.Rootfs)
}

func (w *writer) attachment(name string, a *Attachment) {
	if a != nil {
		w.table(name)
		w.str("sha256", a.SHA256)
	}
}

func (w *writer) table(name string) { fmt.Fprintf(&w.b, "\n[%s]\n", name) }
func (w *writer) list(name string)  { fmt.Fprintf(&w.b, "\n[[%s]]\n", name) }
func (w *writer) key(name string)   { w.b.WriteString(name + " = ") }

// str writes a string, and nothing where it is empty.
func (w *writer) str(name, value string) {
	if value == "" {
		return
	}
	w.key(name)
	quote(&w.b, value)
	w.b.WriteByte('\n')
}

func (w *writer) number(name string, value int64) {
	w.key(name)
	w.b.WriteString(strconv.FormatInt(value, 10))
	w.b.WriteByte('\n')
}

func (w *writer) time(name string, t time.Time) {
	if t.IsZero() {
		return
	}
	w.key(name)
	w.b.WriteString(t.UTC().Format(time.RFC3339) + "\n")
}

// Quote is a string as TOML 1.0 has it.
func Quote(s string) string {
	var b bytes.Buffer
	quote(&b, s)
	return b.String()
}

// quote writes a basic string of TOML 1.0. What isn't UTF-8 becomes U+FFFD: every
// string of a lock comes from a reader that has checked it.
func quote(b *bytes.Buffer, s string) {
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(b, "\\u%04X", r)
		case r == utf8.RuneError:
			b.WriteString("\uFFFD")
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
}
