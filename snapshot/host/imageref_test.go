package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/stead-env/stead/snapshot"
)

// tagged is an image whose root holds a file that tells which it is.
func tagged(t testing.TB, arch, mark string) v1.Image {
	return imageOf(t, arch, "gzip", tarOf(t, fileItem("mark", mark)))
}

func TestChoose(t *testing.T) {
	mine, other, third := goruntime.GOARCH, "arm64", "s390x"
	if mine == other {
		other = "amd64"
	}
	one := writeLayout(t, t.TempDir(), map[string]v1.Image{"": tagged(t, other, "other")})
	foreign := writeLayout(t, t.TempDir(), map[string]v1.Image{"#1": tagged(t, other, "other"), "#2": tagged(t, third, "third")})
	tags := writeLayout(t, t.TempDir(), map[string]v1.Image{"1.0": tagged(t, mine, "1.0"), "acme.example/app:2.0": tagged(t, mine, "2.0"),
		"2.0-" + other: tagged(t, other, "other")})
	same := writeLayout(t, t.TempDir(), map[string]v1.Image{"1.0": tagged(t, mine, "1.0"), "latest": tagged(t, mine, "1.0")})
	many := manyPlatforms(t, mine, other, third)
	digest, err := tagged(t, other, "other").Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, ref, want, hint string }{
		{one, "", "other", ""},
		{one, "linux/" + other, "other", ""},
		{one, "linux/" + mine, "error: there are " + digest.String() + " (linux/" + other + ")", "image:" + one + "#linux/" + other},
		{foreign, "", "error: none of its images is for linux/" + mine, "#linux/"},
		{foreign, "linux/" + third, "third", ""},
		{tags, "", "error: it holds several images", "#1.0"},
		{tags, "1.0", "1.0", ""},
		{tags, "2.0", "2.0", ""},
		{tags, "app:2.0", "2.0", ""},
		{tags, "acme.example/app:2.0", "2.0", ""},
		{tags, digest.String(), "other", ""},
		{tags, "linux/" + other, "other", ""},
		{tags, "3.0", "error: none of its images is 3.0", "#"},
		{same, "", "1.0", ""},
		{same, "latest", "1.0", ""},
		{many, "", mine, ""},
		{many, "linux/" + other, other, ""},
		{many, "app,linux/" + third, third, ""},
		{many, "linux/mips64le", "error: isn't in the file", ""},
	} {
		im, err := OpenImage(t.Context(), c.dir, c.ref, t.TempDir(), nil)
		want, bad := strings.CutPrefix(c.want, "error: ")
		switch {
		case err != nil:
			var hinted interface{ Hint() string }
			if !bad || !strings.Contains(err.Error(), want) || (c.hint != "") != errors.As(err, &hinted) {
				t.Errorf("%s#%s: %v, want %s", c.dir, c.ref, err, c.want)
			} else if c.hint != "" && !strings.Contains(hinted.Hint(), c.hint) {
				t.Errorf("%s#%s: the hint is %q, want %s", c.dir, c.ref, hinted.Hint(), c.hint)
			} else if _, ref, ok := strings.Cut(c.hint, "#"); ok && ref != "" && strings.HasPrefix(c.hint, "image:") {
				openImage(t, c.dir, ref)
			}
		case bad:
			t.Errorf("%s#%s: no error, want %s", c.dir, c.ref, want)
			im.Close()
		default:
			if got := show(t, im); got != "mark f "+want {
				t.Errorf("%s#%s is %q, want %s", c.dir, c.ref, got, want)
			}
			im.Close()
		}
	}
}

// manyPlatforms is one tag with an index below it, an attestation, and a platform that
// was not saved.
func manyPlatforms(t *testing.T, arches ...string) string {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, "application/vnd.oci.image.index.v1+json")
	add := func(im v1.Image, arch string, notes map[string]string) v1.Hash {
		d, err := im.Digest()
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: im, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: arch}, Annotations: notes}})
		return d
	}
	for _, arch := range arches {
		add(tagged(t, arch, arch), arch, nil)
	}
	add(tagged(t, "unknown", "attestation"), "unknown", map[string]string{"vnd.docker.reference.type": "attestation-manifest"})
	lost := add(tagged(t, "mips64le", "lost"), "mips64le", nil)
	dir := t.TempDir()
	p, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = p.AppendIndex(index, layout.WithAnnotations(map[string]string{"io.containerd.image.name": "app"}))
	}
	if err == nil {
		err = os.Remove(filepath.Join(dir, "blobs", "sha256", lost.Hex))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestArchitecture(t *testing.T) {
	for arch, want := range map[string]string{"amd64": "amd64", "386": "i386", "arm": "armhf", "ppc64le": "ppc64el", "z80": ""} {
		dir := writeLayout(t, t.TempDir(), map[string]v1.Image{"": tagged(t, arch, "x")})
		if got := openImage(t, dir, "").Architecture(); got != want {
			t.Errorf("%s is %q, want %q", arch, got, want)
		}
	}
}

// damaged is a layout of which one file was changed.
func damaged(t *testing.T, glob string, change func(string) string) string {
	t.Helper()
	dir := writeLayout(t, t.TempDir(), map[string]v1.Image{"": imageOf(t, goruntime.GOARCH, "gzip", tarOf(t, fileItem("a", "1")))})
	found, err := filepath.Glob(filepath.Join(dir, glob))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if changed := change(string(text)); changed == "" {
			err = os.Remove(name)
		} else {
			err = os.WriteFile(name, []byte(changed), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestNoImage(t *testing.T) {
	layer := func(kind string, change func(string) string) func(string) string {
		return func(text string) string {
			if compression([]byte(text)) == "gzip" == (kind == "layer") && (kind == "layer" || strings.Contains(text, kind)) {
				return change(text)
			}
			return text
		}
	}
	gone := func(string) string { return "" }
	at := func(n int, magic string) []byte {
		return append(bytes.Repeat([]byte{0}, n), magic+strings.Repeat("\x00", 600)...)
	}
	save := func(manifest string) string {
		return writeFile(t, tarOf(t, fileItem("manifest.json", manifest), fileItem("c.json", `{"rootfs":{"diff_ids":["sha256:`+strings.Repeat("0", 64)+`"]}}`),
			linkItem("loop", "loop"), linkItem("out", "../../../../../etc/passwd")))
	}
	for want, name := range map[string]string{
		"no such file":                   filepath.Join(t.TempDir(), "none"),
		"neither a file nor a folder":    "/dev/null",
		"no tar":                         writeFile(t, []byte("hello")),
		"it is no tar":                   writeFile(t, nil),
		"a qcow2 disk":                   writeFile(t, at(0, "QFI\xfb")),
		"an ext file system":             writeFile(t, at(0x438, "\x53\xef")),
		"a raw disk":                     writeFile(t, at(510, "\x55\xaa")),
		"compressed with xz":             writeFile(t, []byte("\xfd7zXZ\x00\x00\x00")),
		"decompressing it":               writeFile(t, gz(t, bytes.Repeat([]byte("x"), 5000))[:30]),
		"tar is damaged":                 writeFile(t, dockerArchive(t, tagged(t, "amd64", "x"))[:700]),
		"the tar of a root file system":  writeFile(t, tarOf(t, fileItem("./etc/passwd", ""))),
		"the root of a system":           "/",
		"a Docker before 1.10":           writeFile(t, tarOf(t, fileItem("repositories", "{}"))),
		"neither an index.json":          writeFile(t, tarOf(t, fileItem("README", ""))),
		"nor a manifest.json":            t.TempDir(),
		"its index.json: ":               damaged(t, "index.json", func(string) string { return "{" }),
		"it holds no image":              damaged(t, "index.json", func(string) string { return `{"schemaVersion":2,"manifests":[]}` }),
		"isn't in the file":              damaged(t, "blobs/sha256/*", layer("diff_ids", gone)),
		"layer 1 of 1 (sha256:":          damaged(t, "blobs/sha256/*", layer("layer", gone)),
		"in place of sha256:":            damaged(t, "blobs/sha256/*", layer("layer", func(s string) string { return s[:20] })),
		" is damaged":                    damaged(t, "blobs/sha256/*", layer("diff_ids", func(s string) string { return s + " " })),
		"its manifest.json: ":            save("["),
		"opening its c: ":                save(`[{"Config":"c"}]`),
		"opening its loop: ":             save(`[{"Config":"loop"}]`),
		"opening its out: ":              save(`[{"Config":"out"}]`),
		"opening its etc/passwd: ":       save(`[{"Config":"../../etc/passwd"}]`),
		"has 0 layers and its configura": save(`[{"Config":"c.json"}]`),
		"it isn't in the image's file":   save(`[{"Config":"c.json","Layers":["/etc/passwd"]}]`),
	} {
		dir := t.TempDir()
		im, err := OpenImage(t.Context(), name, "", dir, nil)
		if err == nil {
			im.Close()
			t.Errorf("%s: opened", want)
		} else if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "reading image "+name) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s: temporary files are left", want)
		}
	}
}

// A folder's links don't lead out of it.
func TestLayoutStaysInside(t *testing.T) {
	dir := damaged(t, "index.json", func(string) string { return "" })
	outside := writeFile(t, []byte(`{"schemaVersion":2,"manifests":[]}`))
	if err := os.Symlink(outside, filepath.Join(dir, "index.json")); err != nil {
		t.Fatal(err)
	}
	if im, err := OpenImage(t.Context(), dir, "", t.TempDir(), nil); err == nil || strings.Contains(err.Error(), "no image") {
		t.Errorf("got %v, %v", im, err)
	}
}

// What lies under an unchanged digest isn't read again; what changed is.
func TestImageStamps(t *testing.T) {
	stamps := func(press string, layers ...[]byte) map[string]snapshot.Stamp {
		dir := writeLayout(t, t.TempDir(), map[string]v1.Image{"": imageOf(t, goruntime.GOARCH, press, layers...)})
		got := map[string]snapshot.Stamp{}
		err := openImage(t, dir, "").Files(t.Context(), ".", func(f snapshot.File, err error) error {
			got[f.Path] = f.Change
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	lower := tarOf(t, fileItem("a", "1"), fileItem("b", "1"), hardItem("c", "b"))
	one := stamps("gzip", lower)
	two := stamps("zstd", lower, tarOf(t, fileItem("a", "2")))
	if one["a"] == one["b"] || one["b"] != one["c"] || one["b"] != two["b"] || one["a"] == two["a"] || one["a"] == (snapshot.Stamp{}) {
		t.Errorf("%x, then %x", one, two)
	}
}

func TestSparseFiles(t *testing.T) {
	const size = 40 << 20
	root := t.TempDir()
	f, err := os.Create(filepath.Join(root, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("end"), size-3)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sparse1", "sparse2", "z"} {
		if err := exec.Command("cp", "--sparse=always", filepath.Join(root, "sparse"), filepath.Join(root, name)).Run(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "sparse1"), []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"gnu", "posix"} {
		out := runTar(t, "-C", root, "--sparse", "--format="+format, "-c", ".")
		if len(out) > 1<<20 {
			t.Fatalf("the tar has %d bytes", len(out))
		}
		im := openImage(t, writeLayout(t, t.TempDir(), map[string]v1.Image{"": imageOf(t, goruntime.GOARCH, "gzip", out)}), "")
		got, want := wholeRoot(t, im), wholeRoot(t, open(t, root))
		for name := range want {
			if got[name] == "" || digestOf(got[name]) != digestOf(want[name]) {
				t.Errorf("%s: got %s, want %s", format, got[name], want[name])
			}
		}
	}
}

// FuzzLayers merges two layers, of which at least one is anything.
func FuzzLayers(f *testing.F) {
	base := tarOf(f, dirItem("usr"), linkItem("bin", "usr"), linkItem("up", "../.."), fileItem("usr/a", "1"), hardItem("b", "usr/a"), dirItem("d"),
		fileItem("d/x", "2"))
	for _, c := range layersCases {
		for _, l := range c.layers {
			if !strings.Contains(c.want, "error") {
				f.Add(tarOf(f, l...), true)
				f.Add(tarOf(f, l...), false)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, first bool) {
		layers := [][]byte{base, data}
		if first {
			layers = [][]byte{data, base}
		}
		var roots []string
		for range 2 {
			root, err := fuzzed(t, layers)
			if err != nil {
				root = "error: " + err.Error()
			}
			roots = append(roots, root)
		}
		if roots[0] != roots[1] {
			t.Errorf("%s, then %s", roots[0], roots[1])
		}
	})
}

// fuzzed merges layers without an image around them.
func fuzzed(t *testing.T, layers [][]byte) (string, error) {
	dir := t.TempDir()
	l, err := newListing(dir)
	if err != nil {
		t.Fatal(err)
	}
	im := &Image{listing: l, spool: dir}
	defer im.Close()
	var list []layer
	for n, b := range layers {
		name := filepath.Join(dir, fmt.Sprint(n))
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		im.blobs = append(im.blobs, &blob{f: f, size: int64(len(b))})
		list = append(list, layer{diffID: v1.Hash{Algorithm: "sha256", Hex: fmt.Sprint(n)}})
	}
	if err := im.merge(context.Background(), list, nil); err != nil {
		return "", err
	}
	return show(t, im), nil
}

func runTar(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.Command("tar", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func digestOf(file string) string {
	_, digest, _ := strings.Cut(file, " Digest:")
	digest, _, _ = strings.Cut(digest, " ")
	return digest
}
