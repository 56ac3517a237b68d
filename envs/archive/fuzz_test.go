package archive

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/lock"
)

func FuzzSources(f *testing.F) {
	f.Add("a.list", "deb [arch=amd64 signed-by=/a.gpg] http://u:p@mirror.example/debian bullseye main\n")
	f.Add("a.list", "deb cdrom:[Disc 1]/ bullseye main # x\ndeb \"file:/a b\" ./\n")
	f.Add("a.sources", "Types: deb\nURIs: http://mirror.example/ file:/x\nSuites: a b/\nComponents:\nSigned-By:\n -----BEGIN PGP\n .\n")
	f.Fuzz(func(t *testing.T, name, text string) {
		sources, _ := parseSources(name, []byte(text), "amd64")
		if len(sources) > 2*maxSources {
			t.Errorf("%d sources", len(sources))
		}
		for _, s := range sources {
			if again, err := cleanURI(s.uri); err != nil || again != s.uri {
				t.Errorf("%q becomes %q: %v", s.uri, again, err)
			}
			if strings.Contains(strings.TrimPrefix(listName(s, "InRelease"), listsDir+"/"), "/") {
				t.Errorf("%q names another folder", listName(s, "InRelease"))
			}
			if strings.Contains("/"+s.base(), "/../") {
				t.Errorf("%q leads out", s.base())
			}
		}
	})
}

func FuzzPackages(f *testing.F) {
	f.Add([]byte(bash.stanza() + tzdata.stanza()))
	f.Add([]byte("Package: bash\r\nVersion: 5.1-2+deb11u1\r\nArchitecture: amd64\r\nFilename: ./a/../../b\r\nSize: 9\r\nSHA256: 00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var hits []hit
		if err := searching(t.Context(), set([]Want{bash.Want, tzdata.Want}), &hits)(bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if len(hits) > 2*maxHits {
			t.Errorf("%d hits", len(hits))
		}
		for _, h := range hits {
			if strings.Contains("/"+h.path+"/", "/../") || h.path[0] == '/' || h.size <= 0 || len(h.sha256) != 64 {
				t.Errorf("hit %+v", h)
			}
		}
	})
}

// Whatever an index says, each package is offered with fields that are within bounds, and
// all that a stanza without malformed fields says is kept.
func FuzzOffers(f *testing.F) {
	f.Add([]byte(maker.stanza() + devNew.stanza() + virtual.stanza()))
	f.Add([]byte("package: a\nVERSION: 1\narchitecture: all\nDepends: b,\n c (= 1),\n\td\nProvides:\nFilename: a/b\nSize: 1\nSHA256: " + strings.Repeat("a", 64) + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		o := &offering{apt: newApt(Debian{}), seen: map[string]bool{}, archives: []lock.Archive{{Name: "a"}}}
		err := scanPackages(t.Context(), bytes.NewReader(data), allFields, func(r *record) error { return o.add(r, 0, 0) })
		if err != nil {
			t.Fatal(err)
		}
		o.settle(0)
		o.opts.Names = []string{"make"}
		reached := o.reach()
		o.opts.Names = nil
		for _, p := range o.packages() {
			if p.Name == "" || p.Version == "" || p.Architecture == "" || p.Size <= 0 || p.Digest().Validate() != nil || !isLocalPath(p.Path) {
				t.Errorf("offered %+v", p)
			}
			if strings.ContainsAny(p.Depends+p.PreDepends+p.Provides+p.Source, "\n") {
				t.Errorf("a line break is in %+v", p)
			}
			if reached["make"] && p.Name == "make" {
				for name := range relationNames(p.Depends) {
					if !reached[name] {
						t.Errorf("%q isn't reached", name)
					}
				}
			}
		}
	})
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte("Origin: Debian\nDate: Sat, 14 Aug 2021 07:57:38 UTC\nSHA256:\n " + strings.Repeat("0", 64) + " 10 main/binary-amd64/Packages.xz\n"))
	f.Add([]byte("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nDate: x\n-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if rel, err := parseRelease(bytes.NewReader(data)); err == nil {
			if rel.date.IsZero() {
				t.Error("a Release without a date")
			}
			if name := rel.name(source{suite: "x"}); name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789.-") != "" {
				t.Errorf("it is called %q", name)
			}
		}
		if rel, err := verify(data, nil); err == nil {
			t.Errorf("verified without a key: %+v", rel)
		}
	})
}

func FuzzKeyring(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	f.Add([]byte{0x99, 0x01, 0x0d, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := readKeyring(data)
		if err == nil && len(keys) == 0 {
			t.Error("neither keys nor an error")
		}
	})
}
