package snapshot

import (
	"strings"
	"testing"
)

func TestUnquote(t *testing.T) {
	for in, want := range map[string]string{
		`plain`: "plain", `"two words"`: "two words", `'single $x'`: "single $x", `"a\"b\$c\d"`: `a"b$c\d`, `a b`: "a", ``: "", `"open`: "open", `'`: "",
	} {
		if got := unquote(in); got != want {
			t.Errorf("unquote(%s) = %q, want %q", in, got, want)
		}
	}
}

func TestTimezone(t *testing.T) {
	for _, c := range []struct{ link, text, want string }{
		{"/usr/share/zoneinfo/Etc/UTC", "", "Etc/UTC"}, {"../usr/share/zoneinfo/posix/Asia/Tokyo", "x", "Asia/Tokyo"},
		{"/etc/elsewhere", "Europe/Paris\n", "Europe/Paris"}, {"", "", ""},
	} {
		if got := timezone(c.link, c.text); got != c.want {
			t.Errorf("timezone(%q, %q) = %q, want %q", c.link, c.text, got, c.want)
		}
	}
}

func FuzzFacts(f *testing.F) {
	f.Add("ID=debian\nVERSION=\"8 (jessie)\"\n")
	f.Add("UMASK 022\n* soft nofile 4096\n")
	f.Fuzz(func(t *testing.T, text string) {
		var facts Facts
		facts.release(text)
		if strings.ContainsRune(facts.Codename, ' ') && !strings.Contains(text, "CODENAME") {
			t.Errorf("code name %q", facts.Codename)
		}
		if u := umask(text); u != "" && len(u) != 4 {
			t.Errorf("umask %q", u)
		}
		if n := nofile(map[string]string{limitsConf: text}); n <= 0 {
			t.Errorf("nofile %d", n)
		}
	})
}

// FuzzLeftovers checks that what is summed up doesn't depend on the order.
func FuzzLeftovers(f *testing.F) {
	f.Add("a/b/c\na/d\ne")
	f.Fuzz(func(t *testing.T, paths string) {
		names := strings.Split(paths, "\n")
		sums := func(reverse bool) []Left {
			l := newLeftovers()
			for i := range names {
				if reverse {
					i = len(names) - 1 - i
				}
				class := State
				if strings.HasSuffix(names[i], "s") {
					class = Secret
				}
				l.add(File{Path: names[i], Type: Regular, Size: 1}, class, "r")
			}
			return l.sorted(people(nil).shown)
		}
		a, b := sums(false), sums(true)
		total := int64(0)
		for i := range a {
			if len(a) != len(b) || a[i] != b[i] {
				t.Fatalf("%v and %v", a, b)
			}
			total += a[i].Files
		}
		if total != int64(len(names)) {
			t.Errorf("%d files of %d", total, len(names))
		}
	})
}
