package archive

import (
	"fmt"
	"strings"
	"testing"
)

func show(list []source) string {
	var out []string
	for _, s := range list {
		line := fmt.Sprint(s.uri, " ", s.suite, " ", s.components)
		if len(s.archs) > 0 {
			line += fmt.Sprint(" archs=", s.archs)
		}
		if len(s.signedBy) > 0 {
			line += fmt.Sprintf(" by=%q", s.signedBy)
		}
		if s.trusted {
			line += " trusted"
		}
		if len(s.siblings) > 0 {
			line += fmt.Sprint(" or ", s.siblings)
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func TestParseSources(t *testing.T) {
	tests := []struct {
		name, file, text, want, skipped string
	}{
		{"plain", "a.list", "# comment\n\ndeb http://mirror.example/debian/ bullseye main contrib # more\ndeb-src http://mirror.example/debian bullseye main\n",
			"http://mirror.example/debian bullseye [main contrib]", ""},
		{"options", "a.list", "deb [ arch=amd64,i386 signed-by=/usr/share/keyrings/a.gpg,ABCD trusted=yes ] https://mirror.example/x s c",
			`https://mirror.example/x s [c] archs=[amd64 i386] by=["/usr/share/keyrings/a.gpg" "ABCD"] trusted`, ""},
		{"options without blanks", "a.list", "deb\t[arch=amd64]\thttp://mirror.example/x\ts\tc\r\n", "http://mirror.example/x s [c] archs=[amd64]", ""},
		{"flat", "a.list", "deb file:/srv/repo ./\ndeb http://mirror.example/$(ARCH) /\ndeb copy:///srv/r exact/path/",
			"file:/srv/repo ./ []\nhttp://mirror.example/amd64 / []\ncopy:///srv/r exact/path/ []", ""},
		{"password", "a.list", "deb https://user:pa55@mirror.example:8443/x?token=pa55 s c", "https://mirror.example:8443/x s [c]", ""},
		{"skipped kinds", "a.list", "deb cdrom:[Debian GNU/Linux 11 _Bullseye_ - Official]/ bullseye main\ndeb mirror+http://mirror.example/list s c\ndeb tor+http://mirror.example/x s c\ndeb foo://user:pa55@x s c\ndeb http://mirror.example/ok s c",
			"http://mirror.example/ok s [c]", "line 1: archives of the kind cdrom:|line 2: archives of the kind mirror+http:|line 3: archives of the kind tor+http:|line 4: the archive's address is of no known kind"},
		{"malformed", "a.list", "deb\ndeb http://mirror.example/x\ndeb http://mirror.example/x ../../etc main\ndeb http://mirror.example/x s ../..\ndeb http://mirror.example/x suite\ndeb http://pa55%zz@mirror.example/ s c\ndeb http:///x s c\ndeb file:/../etc s c",
			"", "line 1: it lacks|line 2: it lacks|line 3: the suite leads out|line 4: a component leads out|line 5: a suite has components|line 6: the archive's address is no URI|line 7: the archive's address names no host|line 8: the archive's address is no plain path"},
		{"deb822", "a.sources", "Types: deb deb-src\nURIs: http://one.mirror.example/debian/ http://two.mirror.example/debian\nSuites: a a-updates\nComponents: main\nSigned-By: /usr/share/keyrings/a.gpg\n\nTypes: deb\nEnabled: no\nURIs: http://mirror.example/\nSuites: a\nComponents: b\n\n# x\nTypes: deb-src\nURIs: http://mirror.example\nSuites: a\nComponents: b\n",
			`http://one.mirror.example/debian a [main] by=["/usr/share/keyrings/a.gpg"] or [http://two.mirror.example/debian]
http://two.mirror.example/debian a [main] by=["/usr/share/keyrings/a.gpg"] or [http://one.mirror.example/debian]
http://one.mirror.example/debian a-updates [main] by=["/usr/share/keyrings/a.gpg"] or [http://two.mirror.example/debian]
http://two.mirror.example/debian a-updates [main] by=["/usr/share/keyrings/a.gpg"] or [http://one.mirror.example/debian]`, ""},
		{"deb822 with a key", "a.sources", "types: deb\nuris: http://mirror.example/x\nsuites: ./\narchitectures: amd64\nsigned-by:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n # no comment within\n AAAA\n -----END PGP PUBLIC KEY BLOCK-----\nTrusted: yes",
			`http://mirror.example/x ./ [] archs=[amd64] by=["-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n# no comment within\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"] trusted`, ""},
		{"deb822 malformed", "a.sources", "Types: deb\nURIs: http://mirror.example/x\nSuites: s\nComponents: c\n\n folded\n", "http://mirror.example/x s [c]", "a.sources: line 6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, skip := parseSources(tt.file, []byte(tt.text), "amd64")
			if show(got) != tt.want {
				t.Errorf("got\n%s\ninstead of\n%s", show(got), tt.want)
			}
			var why []string
			for _, s := range skip {
				why = append(why, s.String())
			}
			want := strings.Split(tt.skipped, "|")
			if tt.skipped == "" {
				want = nil
			}
			if len(why) != len(want) {
				t.Fatalf("skipped %q instead of %q", why, want)
			}
			for i := range why {
				if !strings.Contains(why[i], want[i]) || strings.Contains(why[i], "pa55") {
					t.Errorf("skipped %q instead of %q", why[i], want[i])
				}
			}
		})
	}
}

func TestListName(t *testing.T) {
	for _, tt := range []struct{ uri, suite, want string }{
		{"http://mirror.example/debian/", "bullseye-updates", "mirror.example_debian_dists_bullseye-updates_InRelease"},
		{"https://mirror.example:8080/a_b/~x", "s/updates", "mirror.example:8080_a%5fb_%7ex_dists_s_updates_InRelease"},
		{"http://mirror.example/r", "./", "mirror.example_r_._InRelease"},
		{"http://mirror.example/r", "/", "mirror.example_r_InRelease"},
		{"file:/srv/repo", "s", "_srv_repo_dists_s_InRelease"},
	} {
		uri, err := cleanURI(tt.uri)
		if err != nil {
			t.Fatal(err)
		}
		if got := listName(source{uri: uri, suite: tt.suite}, "InRelease"); got != listsDir+"/"+tt.want {
			t.Errorf("%s %s: %s", tt.uri, tt.suite, got)
		}
	}
}

func TestArchiveNames(t *testing.T) {
	for _, tt := range []struct{ origin, suite, codename, of, want string }{
		{"Debian", "oldstable", "bullseye", "bullseye", "debian-bullseye"},
		{"Debian", "stable-security", "bookworm-security", "bookworm-security", "debian-bookworm-security"},
		{"Ubuntu", "jammy-updates", "jammy", "jammy-updates", "ubuntu-jammy-updates"},
		{"LP-PPA-some/thing", "", "", "jammy", "lp-ppa-some-thing-jammy"},
		{"", "", "", "./", "archive"},
		{"Ærø \x00../", "", "", "x", "r-x"},
	} {
		r := &release{origin: tt.origin, suite: tt.suite, codename: tt.codename}
		if got := r.name(source{suite: tt.of}); got != tt.want {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// Keys in the paragraph itself, and files that several sources share.
func TestKeysOfSources(t *testing.T) {
	key, other := newKey(t, 0), newKey(t, 0)
	h := newHost(t)
	h.write(t, "srv/config/sources/a.sources", []byte("Types: deb\nURIs: http://mirror.example/a\nSuites: s\nComponents: c\nSigned-By:\n "+
		strings.ReplaceAll(strings.ReplaceAll(strings.TrimSpace(armored(t, key)), "\n\n", "\n.\n"), "\n", "\n ")+"\n"))
	h.write(t, "srv/config/sources/b.list", []byte("deb [signed-by="+fingerprint(other)+"!] http://mirror.example/b s c\ndeb http://mirror.example/c s c\ndeb [signed-by=/none.gpg] http://mirror.example/d s c\n"))
	h.write(t, "etc/apt/sources.list", []byte("deb http://mirror.example/first s c\n"))
	h.write(t, "srv/config/sources/not read.list", []byte("deb http://mirror.example/never s c\n"))
	h.link(t, "etc/apt/sources.list.d", "/srv/config/sources")
	h.write(t, "etc/apt/trusted.gpg", publicKey(t, other))
	h.write(t, "etc/apt/trusted.gpg.d/k.asc", []byte(armored(t, key)+armored(t, other)))
	h.write(t, "etc/apt/trusted.gpg.d/bad.gpg", []byte("KBX"))
	h.link(t, "etc/apt/trusted.gpg.d/loop.gpg", "loop.gpg")
	var n notes
	a := newApt(Debian{Host: h, Architecture: "amd64", Fetch: quick(&n)})
	if err := a.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(a.sources) != 5 || a.sources[0].uri != "http://mirror.example/first" {
		t.Fatalf("sources are %s", show(a.sources))
	}
	for i, want := range []int{3, 1, 2, 3, 0} {
		keys, err := a.keys(a.sources[i])
		if len(keys) != want || (err != nil) != (want == 0) {
			t.Errorf("%s has %d keys instead of %d: %v", a.sources[i].uri, len(keys), want, err)
		}
	}
	if !strings.Contains(n.String(), "bad.gpg") {
		t.Errorf("notes are %s", &n)
	}
}
