package main

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stead-env/stead/envs/artifact"
)

func TestUnderstand(t *testing.T) {
	for line, want := range map[string]complaint{
		"libssl.so.1.1 => not found": {kind: "missing-library", name: "libssl.so.1.1"},
		"/usr/bin/ab: /lib/libc.so.6: version `GLIBC_2.38' not found (required by /usr/bin/ab)": {
			kind: "missing-version", name: "GLIBC_2.38", by: "/usr/bin/ab"},
		"/usr/bin/ab: /lib/libc.so.6: weak version `X_1' not found (required by /usr/bin/ab)":         {kind: "harmless", name: "X_1"},
		"/usr/bin/apt: /lib/libapt.so.6: no version information available (required by /usr/bin/apt)": {kind: "harmless"},
		"undefined symbol: SSL_new, version OPENSSL_3.0.0\t(/usr/bin/ab)":                             {"missing-symbol", "SSL_new", "/usr/bin/ab", "OPENSSL_3.0.0"},
		"undefined symbol: ldap_init, version \t(/usr/lib/a.so)":                                      {kind: "missing-symbol", name: "ldap_init", by: "/usr/lib/a.so"},
		"undefined symbol: _ZN1a1bEv\t(/usr/lib/a.so)":                                                {kind: "missing-symbol", name: "_ZN1a1bEv", by: "/usr/lib/a.so"},
		"/usr/bin/a: Symbol `environ' has different size in shared object, consider re-linking":       {kind: "copy-size", name: "environ"},
		"/usr/bin/a: error while loading shared libraries: /usr/lib/liba.so: file too short":          {kind: "other", name: "/usr/bin/a: error while loading shared libraries: /usr/lib/liba.so: file too short"},
	} {
		if got := understand(line); got != want {
			t.Errorf("%s:\ngot  %+v\nwant %+v", line, got, want)
		}
	}
}

func TestCompare(t *testing.T) {
	fails := func(kind, when string) artifact.Answer {
		return artifact.Answer{Verdict: artifact.Fails, Reasons: []artifact.Reason{{Verdict: artifact.Fails, Kind: kind, When: when}}}
	}
	maybe := artifact.Answer{Verdict: artifact.Unproven, Reasons: []artifact.Reason{{Verdict: artifact.Unproven, Kind: "dlopen"}}}
	starts := artifact.Answer{Verdict: artifact.Starts}
	fine, missing := answer{}, answer{Load: []string{"liba.so.1 => not found"}}
	lazy, warned := answer{Call: []string{"undefined symbol: a\t(/b)"}}, answer{Load: []string{"b: weak version `X' not found"}}
	overlooked := answer{Overlooked: "/usr/bin/python3"}
	for name, c := range map[string]struct {
		a    answer
		v    artifact.Answer
		want outcome
	}{
		"both start":                       {fine, starts, agreed},
		"a warning":                        {warned, starts, agreed},
		"both fail":                        {missing, fails("missing-library", "load"), agreed},
		"both fail when called":            {lazy, fails("missing-symbol", "call"), agreed},
		"starts, really not":               {missing, starts, disagreed},
		"starts, really until called":      {lazy, starts, disagreed},
		"fails, really not":                {fine, fails("missing-symbol", "load"), disagreed},
		"fails later than really":          {missing, fails("missing-symbol", "call"), disagreed},
		"fails earlier than really":        {lazy, fails("missing-symbol", "load"), disagreed},
		"fails for what isn't a loader's":  {fine, fails("cpu", "load"), beyond},
		"fails where it is looked for":     {fine, fails("module-abi", "load"), disagreed},
		"fails where it isn't":             {overlooked, fails("module-abi", "load"), agreed},
		"starts where it isn't looked for": {overlooked, starts, disagreed},
		"fails for both":                   {missing, fails("cpu", "load"), beyond},
		"unproven":                         {missing, maybe, unproven},
		"unproven without a reason":        {fine, artifact.Answer{Verdict: artifact.Unproven}, disagreed},
		"refused by the kernel":            {answer{Exec: "no such file"}, fails("no-loader", "load"), agreed},
	} {
		if got, why := compare(c.a, c.v); got != c.want {
			t.Errorf("%s: %s (%s), not %s", name, got, why, c.want)
		}
	}
}

// A tenth of the files of three small hosts, that other tests use, is judged for each as
// their own loaders do.
func TestSample(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("asking loaders in other roots needs root")
	}
	if testing.Short() {
		t.Skip("hosts are made for it")
	}
	if err := os.Chdir("../.."); err != nil {
		t.Fatal(err)
	}
	o := &oracle{problems: true, packages: 5, pick: func(s subject) bool {
		sum := sha256.Sum256([]byte(s.Path))
		return sum[0] < 256/10
	}}
	for name, in := range map[string]string{"bullseye": "demo-host/host", "bookworm": "userlands/bookworm", "trixie": "userlands/trixie"} {
		made, root, _ := strings.Cut(in, "/")
		dir, err := madeHosts(t.Context(), made)
		if err != nil {
			t.Fatal(err)
		}
		h := host{Name: name, Root: filepath.Join(dir, root)}
		o.sources, o.targets = append(o.sources, h), append(o.targets, h)
	}
	r, err := o.ask(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if !report(&out, r.problems, false) || !report(&out, r.all, false) || !report(&out, r.packages, false) {
		t.Errorf("%s", out.Bytes())
	}
}
