package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A host in an image is the release that it is in a folder.
func testImage(r *real) {
	file := r.path("layer.tar")
	r.must(exec.Command("tar", "-C", r.host, "--xattrs", "--xattrs-include=*", "--numeric-owner", "--format=posix", "-cf", file, "."))
	r.must(exec.Command("zstd", "-q", "-1", "--rm", file))
	layer, err := tarball.LayerFromFile(file+".zst", tarball.WithMediaType(types.OCILayerZStd))
	if err != nil {
		r.t.Fatal(err)
	}
	im := imageOf(r.t, layer, "amd64")
	p, err := layout.Write(r.path("layout"), empty.Index)
	if err == nil {
		err = p.AppendImage(im, layout.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}))
	}
	if err == nil {
		err = p.AppendImage(imageOf(r.t, layer, "arm64"), layout.WithPlatform(v1.Platform{OS: "linux", Architecture: "arm64"}))
	}
	tag, tagErr := name.NewTag("acme.example/host:1")
	if err != nil || tagErr != nil {
		r.t.Fatal(err, tagErr)
	}
	if err := tarball.WriteToFile(r.path("saved.tar"), tag, im); err != nil {
		r.t.Fatal(err)
	}
	r.must(exec.Command("gzip", "-1", r.path("saved.tar")))
	type answer struct {
		Identity string
		New      bool
	}
	var folder answer
	r.answer(r.command("fleet", "lead", "snapshot", r.host, "acme", "--yes", "--json"), &folder)
	for fleet, address := range map[string]string{"fleet-layout": "image:" + r.path("layout"),
		"fleet-saved": "image:" + r.path("saved.tar.gz") + "#1", "fleet-arm": "image:" + r.path("layout") + "#linux/arm64"} {
		var first, again answer
		out, said, code := result(r.command(fleet, "lead", "snapshot", address, "acme", "--yes", "--json", "--progress", "lines"))
		if err := json.Unmarshal([]byte(out), &first); err != nil || code != 0 {
			r.t.Fatalf("%s: exit code %d, %v\n%s", address, code, err, said)
		}
		if odd := strings.Contains(said, "said to be arm64, and its packages are amd64"); odd != (fleet == "fleet-arm") {
			r.t.Errorf("%s: the architecture is noted: %v\n%s", address, odd, said)
		}
		if fleet == "fleet-saved" { // by the address in target.toml
			r.answer(r.command(fleet, "lead", "snapshot", "acme", "--yes", "--json"), &again)
			first.New = first.New && again == (answer{Identity: folder.Identity})
		}
		if first.Identity != folder.Identity || !first.New {
			r.t.Errorf("%s is %+v, then %+v; the folder is %+v", address, first, again, folder)
		}
	}
	for _, name := range []string{"layer.tar.zst", "layout", "saved.tar.gz"} {
		if err := os.RemoveAll(r.path(name)); err != nil {
			r.t.Fatal(err)
		}
	}
	if left := strings.TrimSpace(r.must(exec.Command("find", r.path("lead", "work"), "-mindepth", "1"))); left != "" {
		r.t.Errorf("left in the store: %s", left)
	}
}

// imageOf is an image of one layer.
func imageOf(t *testing.T, layer v1.Layer, arch string) v1.Image {
	t.Helper()
	im, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	config, err := im.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", arch
	if im, err = mutate.ConfigFile(im, config); err != nil {
		t.Fatal(err)
	}
	return im
}
