package envs

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
	"github.com/opencontainers/go-digest"
	"github.com/package-url/packageurl-go"

	"github.com/stead-env/stead/envs/evidencetest"
	"github.com/stead-env/stead/envs/lock"
	"github.com/stead-env/stead/runtime"
)

// factsForTest are those of a build with tools.
func factsForTest() *buildFacts {
	sum := func(c string) string { return strings.Repeat(c, 64) }
	archive := lock.Archive{Name: "debian-bullseye", URI: "http://mirror.example/debian", Suite: "bullseye",
		InRelease: digest.Digest("sha256:" + sum("1")), SignedBy: []string{strings.Repeat("A", 40)}, Dated: time.Date(2026, 8, 1, 2, 3, 4, 0, time.UTC)}
	return &buildFacts{
		Project: "/home/u/app", Release: Release{Target: "acme", Number: 3}, Identity: digest.Digest("sha256:" + sum("2")),
		LockFile: digest.Digest("sha256:" + sum("3")),
		Lock: &lock.Lock{Host: lock.Host{ID: "debian", Version: "11", Codename: "bullseye", Architecture: "amd64"},
			Archives: []lock.Archive{archive}, Delta: lock.Delta{SHA256: sum("4"), Size: 1, Files: 1},
			Rootfs: lock.Rootfs{Digest: "tree1:sha256:" + sum("5")},
			Packages: []lock.Package{
				{Name: "gone", Version: "1", Architecture: "all", Proof: lock.Listed, State: "config-files"},
				{Name: "libstdc++6", Version: "1:10.2.1-6+b1~x", Architecture: "amd64", Archive: archive.Name, SHA256: sum("6"), Proof: lock.Exact},
				{Name: "linux-image-amd64", Version: "5", Architecture: "amd64", SHA256: sum("7"), Proof: lock.Exact, Rootfs: "out"},
				{Name: "own", Version: "2 @?&%", Architecture: "all", SHA256: sum("8"), Proof: lock.Repacked},
				{Name: "named", Version: "3", Architecture: "amd64", Proof: lock.Listed},
			}},
		Wishes: []string{"gcc"},
		Tools: &Tools{Archives: []lock.Archive{archive}, Digest: "tree1:sha256:" + sum("9"),
			Delta:    lock.Delta{SHA256: sum("a"), Size: 1, Files: 1},
			Packages: []lock.Package{{Name: "gcc", Version: "4:10", Architecture: "amd64", Archive: archive.Name, SHA256: sum("b"), Proof: lock.Exact}}},
		Licenses: licenses{"base/libstdc++6": {"Expat", "GPL-3+ with GCC exception"}, "tools/gcc": {"GPL-2+"}},
		Source:   Source{URI: "git+https://git.example/app", Commit: strings.Repeat("c", 40), Tree: strings.Repeat("d", 40), Dirty: true},
		Build:    Build{Command: []string{"make", "CFLAGS=-O2 <x>"}, Fetch: []string{"true"}, Artifacts: []string{"app"}},
		Settings: Settings{Variables: map[string]string{"B": "2", "A": "1"}, Devices: []string{"/dev/kvm"},
			Mounts: []Mount{{Mount: runtime.Mount{Source: "/data", Target: "/srv"}, text: "/data:/srv:ro"}}},
		Engine: "embedded", Builder: Builder{ID: builderID, Version: "v1.2.3", Invocation: "https://ci.example/1"},
		Started: time.Date(2026, 11, 21, 9, 12, 44, 5, time.UTC), Finished: time.Date(2026, 11, 21, 10, 13, 0, 0, time.FixedZone("", 3600)),
	}
}

func alike(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}

func evidenceForTest(t *testing.T, f *buildFacts) map[string][]byte {
	t.Helper()
	list, err := f.evidence([]Artifact{{Path: "app", SHA256: strings.Repeat("e", 64)}, {Path: "lib/x.so", SHA256: strings.Repeat("f", 64)}})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range list {
		if digest.FromBytes(e.data).Encoded() != e.SHA256 {
			t.Errorf("%s has another digest than %s", e.Path, e.SHA256)
		}
		files[e.Path] = e.data
	}
	return files
}

func TestProvenance(t *testing.T) {
	f := factsForTest()
	files := evidenceForTest(t, f)
	s, p := evidencetest.Statement(t, files[statementFile], files[predicateFile])
	if len(s.Subject) != 2 || s.Subject[1].Name != "lib/x.so" || s.Subject[1].Digest["sha256"] != strings.Repeat("f", 64) {
		t.Errorf("the subjects are %v", s.Subject)
	}
	external, internal := p.BuildDefinition.ExternalParameters.AsMap(), p.BuildDefinition.InternalParameters.AsMap()
	alike(t, external, map[string]any{"project": "app", "target": "acme", "command": []any{"make", "CFLAGS=-O2 <x>"}, "fetch": []any{"true"},
		"artifacts": []any{"app"}, "tools": []any{"gcc"}, "variables": map[string]any{"A": "1", "B": "2"}, "mounts": []any{"/data:/srv:ro"},
		"devices": []any{"/dev/kvm"}})
	if internal["lock"] != f.Identity.String() || internal["tools"] != f.Tools.Digest || internal["rootfs"] != f.Lock.Rootfs.Digest {
		t.Errorf("internal parameters: %v", internal)
	}
	run := p.RunDetails
	if run.Builder.Id != builderID || run.Builder.Version["stead"] != "v1.2.3" || run.Metadata.InvocationId != "https://ci.example/1#acme" {
		t.Errorf("the builder: %v", run)
	}
	if took := run.Metadata.FinishedOn.AsTime().Sub(run.Metadata.StartedOn.AsTime()); took != 16*time.Second {
		t.Errorf("the build took %v", took)
	}
	if sum := digest.FromBytes(files[contentsFile]).Encoded(); run.Byproducts[0].Digest["sha256"] != sum {
		t.Errorf("the list of the env is %v, want %s", run.Byproducts, sum)
	}
	var got []string
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		note := d.Annotations.AsMap()
		layer, _ := note["layer"].(string)
		got = append(got, strings.TrimSpace(note["kind"].(string)+" "+layer+" "+d.Name))
		if note["kind"] == "source" && (note["dirty"] != true || d.Digest["gitCommit"] != f.Source.Commit) {
			t.Errorf("the source is %v", d)
		}
	}
	alike(t, got, []string{"lock  acme@3", "rootfs base rootfs", "source  source", "tools tools tools", "delta base delta",
		"archive base debian-bullseye", "package base libstdc++6", "package base own", "package base named",
		"delta tools delta", "archive tools debian-bullseye", "package tools gcc"})
}

func TestContentsList(t *testing.T) {
	f := factsForTest()
	bom := evidencetest.Contents(t, evidenceForTest(t, f)[contentsFile])
	alike(t, *bom.Metadata.Component, cyclonedx.Component{Type: "container", BOMRef: "env", Name: "acme", Version: "3"})
	refs := map[string][]string{}
	for _, d := range *bom.Dependencies {
		refs[d.Ref] = *d.Dependencies
	}
	gcc, cpp := "pkg:deb/debian/gcc@4:10?arch=amd64&distro=bullseye",
		"pkg:deb/debian/libstdc%2B%2B6@1:10.2.1-6%2Bb1~x?arch=amd64&distro=bullseye"
	alike(t, refs, map[string][]string{"env": {"base", "tools"}, "tools": {"tools-delta", gcc},
		"base": {"os", "base-delta", cpp, "pkg:deb/debian/own@2%20%40%3F%26%25?arch=all&distro=bullseye",
			"pkg:deb/debian/named@3?arch=amd64&distro=bullseye"}})
	licenses := map[string][]string{}
	for _, c := range *bom.Components {
		if c.Licenses != nil {
			for _, l := range *c.Licenses {
				licenses[c.Name] = append(licenses[c.Name], l.License.ID+"|"+l.License.Name)
			}
		}
	}
	alike(t, licenses, map[string][]string{"libstdc++6": {"MIT|", "|GPL-3+ with GCC exception"}, "gcc": {"GPL-2.0-or-later|"}})
}

// The library that others read package URLs with writes them like this.
func TestPackageURL(t *testing.T) {
	f := factsForTest()
	for _, p := range append(f.Lock.Packages, f.Tools.Packages...) {
		got := f.purl(p)
		u, err := packageurl.FromString(got)
		if err != nil || u.Name != p.Name || u.Version != p.Version || u.Qualifiers.Map()["arch"] != p.Architecture || u.ToString() != got {
			t.Errorf("%s: %v, %v", got, u, err)
		}
	}
	f.Lock.Host = lock.Host{ID: "ubuntu", Version: "22.04"}
	if got, want := f.purl(lock.Package{Name: "a", Version: "1"}), "pkg:deb/ubuntu/a@1?distro=ubuntu-22.04"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A build that is done again is told of in the same words, but for times and its name.
func TestEvidenceRepeats(t *testing.T) {
	one, two := factsForTest(), factsForTest()
	if a, b := evidenceForTest(t, one), evidenceForTest(t, two); !slices.EqualFunc([]string{contentsFile, statementFile, predicateFile},
		[]string{contentsFile, statementFile, predicateFile}, func(x, y string) bool { return string(a[x]) == string(b[y]) }) {
		t.Error("the same facts give other files")
	}
	two.Started, two.Finished, two.Builder.Invocation = time.Now(), time.Now(), ""
	a, b := evidenceForTest(t, one), evidenceForTest(t, two)
	if string(a[contentsFile]) != string(b[contentsFile]) {
		t.Error("the list of the env differs")
	}
	var differ []string
	left, right := strings.Split(string(a[predicateFile]), "\n"), strings.Split(string(b[predicateFile]), "\n")
	for i := range left {
		if left[i] != right[i] {
			name, _, _ := strings.Cut(strings.TrimSpace(left[i]), ":")
			differ = append(differ, name)
		}
	}
	alike(t, differ, []string{`"invocationId"`, `"startedOn"`, `"finishedOn"`})
	if _, p := evidencetest.Statement(t, b[statementFile], b[predicateFile]); !strings.HasPrefix(p.RunDetails.Metadata.InvocationId, "urn:uuid:") {
		t.Errorf("the build's name is %s", p.RunDetails.Metadata.InvocationId)
	}
}

// Where there is nothing to tell of, what is left is valid.
func TestEvidenceOfLittle(t *testing.T) {
	f := factsForTest()
	f.Tools, f.Source, f.Lock.Host, f.Lock.Archives, f.Lock.Delta = nil, Source{}, lock.Host{}, nil, lock.Delta{}
	files := evidenceForTest(t, f)
	evidencetest.Statement(t, files[statementFile], files[predicateFile])
	evidencetest.Contents(t, files[contentsFile])
	list, err := f.evidence(nil)
	if err != nil || len(list) != 1 || list[0].Path != contentsFile {
		t.Errorf("without artifacts there is %v, %v", list, err)
	}
}

func TestBuilderInCI(t *testing.T) {
	for _, name := range []string{"GITHUB_RUN_ID", "CI_JOB_URL", "STEAD_BUILDER_ID"} {
		t.Setenv(name, "")
	}
	if b := ReadBuilder("v1"); b != (Builder{builderID, "v1", ""}) {
		t.Errorf("at home: %v", b)
	}
	t.Setenv("CI_JOB_URL", "https://git.example/app/-/jobs/7")
	if b := ReadBuilder("v1"); b.Invocation != "https://git.example/app/-/jobs/7" {
		t.Errorf("GitLab: %v", b)
	}
	for name, value := range map[string]string{"GITHUB_RUN_ID": "8", "GITHUB_SERVER_URL": "https://git.example", "GITHUB_REPOSITORY": "a/b",
		"GITHUB_RUN_ATTEMPT": "2", "STEAD_BUILDER_ID": "https://ci.example/builder"} {
		t.Setenv(name, value)
	}
	if b := ReadBuilder("v1"); b != (Builder{"https://ci.example/builder", "v1", "https://git.example/a/b/actions/runs/8/attempts/2"}) {
		t.Errorf("GitHub: %v", b)
	}
}
