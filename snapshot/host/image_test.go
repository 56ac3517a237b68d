package host

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	media "github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/stead-env/stead/snapshot"
	"github.com/stead-env/stead/snapshot/host/hosttest"
)

// item is an entry of a layer.
type item struct {
	tar.Header
	content string
}

func tarOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		h := i.Header
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		h.Size = int64(len(i.content))
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := io.WriteString(w, i.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func dirItem(name string) item {
	return item{Header: tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}}
}
func fileItem(name, content string) item {
	return item{Header: tar.Header{Name: name}, content: content}
}
func linkItem(name, target string) item {
	return item{Header: tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}}
}
func hardItem(name, target string) item {
	return item{Header: tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}}
}

// folderItems are the entries of a folder, as an archiver writes them.
func folderItems(t testing.TB, root string) []item {
	t.Helper()
	var items []item
	first := map[uint64]string{}
	err := filepath.WalkDir(root, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		info, err := os.Lstat(name)
		if err != nil {
			return err
		}
		h := tar.Header{Name: rel, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid), ModTime: info.ModTime(),
			PAXRecords: map[string]string{}}
		i := item{}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			h.Typeflag, h.Name = tar.TypeDir, rel+"/"
		case unix.S_IFLNK:
			h.Typeflag = tar.TypeSymlink
			h.Linkname, _ = os.Readlink(name)
		case unix.S_IFIFO:
			h.Typeflag = tar.TypeFifo
		case unix.S_IFREG:
			if old := first[st.Ino]; old != "" && st.Nlink > 1 {
				h.Typeflag, h.Linkname = tar.TypeLink, old
				break
			}
			first[st.Ino] = rel
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			i.content = string(content)
		}
		buf := make([]byte, 4096)
		if n, err := unix.Llistxattr(name, buf); err == nil {
			for _, attr := range strings.Split(string(buf[:n]), "\x00") {
				value := make([]byte, 4096)
				if n, err := unix.Lgetxattr(name, attr, value); err == nil && attr != "" {
					h.PAXRecords["SCHILY.xattr."+attr] = string(value[:n])
				}
			}
		}
		i.Header = h
		items = append(items, i)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// pressed are the ways to compress a layer.
var pressed = map[string]func(testing.TB, []byte) ([]byte, media.MediaType){
	"plain": func(_ testing.TB, b []byte) ([]byte, media.MediaType) { return b, media.OCIUncompressedLayer },
	"gzip":  func(t testing.TB, b []byte) ([]byte, media.MediaType) { return gz(t, b), media.OCILayer },
	"zstd":  func(t testing.TB, b []byte) ([]byte, media.MediaType) { return zst(t, b), media.OCILayerZStd },
}

func gz(t testing.TB, b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zst(t testing.TB, b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(b, nil)
}

// writtenLayer is one whose compression the test chose.
type writtenLayer struct {
	v1.Layer
	id v1.Hash
}

func (l writtenLayer) DiffID() (v1.Hash, error) { return l.id, nil }

// imageOf makes an image for this machine, or for the architecture given.
func imageOf(t testing.TB, arch, press string, layers ...[]byte) v1.Image {
	t.Helper()
	im := empty.Image
	im = mutate.MediaType(im, media.OCIManifestSchema1)
	im = mutate.ConfigMediaType(im, media.OCIConfigJSON)
	for _, b := range layers {
		id, _, err := v1.SHA256(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		content, kind := pressed[press](t, b)
		if im, err = mutate.AppendLayers(im, writtenLayer{static.NewLayer(content, kind), id}); err != nil {
			t.Fatal(err)
		}
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

// writeLayout writes an OCI layout.
func writeLayout(t testing.TB, dir string, images map[string]v1.Image) string {
	t.Helper()
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range slices.Sorted(maps.Keys(images)) {
		config, err := images[tag].ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		opts := []layout.Option{layout.WithPlatform(*config.Platform())}
		if name, _, _ := strings.Cut(tag, "#"); name != "" {
			opts = append(opts, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": name}))
		}
		if err := p.AppendImage(images[tag], opts...); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func openImage(t testing.TB, name, ref string) *Image {
	t.Helper()
	im, err := OpenImage(t.Context(), name, ref, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := im.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(im.spool); err == nil {
			t.Error("temporary files are left")
		}
	})
	return im
}

func TestImageConforms(t *testing.T) {
	for name, write := range map[string]func(t *testing.T, layers ...[]byte) string{
		"layout, gzip": func(t *testing.T, layers ...[]byte) string {
			return writeLayout(t, t.TempDir(), map[string]v1.Image{"": imageOf(t, goruntime.GOARCH, "gzip", layers...)})
		},
		"layout, plain": func(t *testing.T, layers ...[]byte) string {
			return writeLayout(t, t.TempDir(), map[string]v1.Image{"": imageOf(t, goruntime.GOARCH, "plain", layers...)})
		},
		"tar of a layout, zstd": func(t *testing.T, layers ...[]byte) string {
			dir := writeLayout(t, t.TempDir(), map[string]v1.Image{"": imageOf(t, goruntime.GOARCH, "zstd", layers...)})
			return writeFile(t, tarOf(t, folderItems(t, dir)...))
		},
		"docker save": func(t *testing.T, layers ...[]byte) string {
			return writeFile(t, dockerArchive(t, imageOf(t, goruntime.GOARCH, "plain", layers...)))
		},
		"docker save, gzip": func(t *testing.T, layers ...[]byte) string {
			return writeFile(t, gz(t, dockerArchive(t, imageOf(t, goruntime.GOARCH, "plain", layers...))))
		},
		"docker save, zstd, gzip inside": func(t *testing.T, layers ...[]byte) string {
			return writeFile(t, zst(t, dockerArchive(t, imageOf(t, goruntime.GOARCH, "gzip", layers...))))
		},
	} {
		t.Run(name+"/one layer", func(t *testing.T) {
			hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
				return openImage(t, write(t, tarOf(t, folderItems(t, root)...)), "")
			})
		})
		t.Run(name+"/two layers", func(t *testing.T) {
			hosttest.Run(t, func(t *testing.T, root string) snapshot.Host {
				lower, upper := split2(folderItems(t, root))
				return openImage(t, write(t, tarOf(t, lower...), tarOf(t, upper...)), "")
			})
		})
	}
}

func writeFile(t testing.TB, content []byte) string {
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// split2 divides the entries of a root into two layers. What the upper one brings was
// something else in the lower; beside it are things that it whites out.
func split2(items []item) (lower, upper []item) {
	targets := map[string]bool{}
	for _, i := range items {
		targets[i.Linkname] = i.Typeflag == tar.TypeLink
	}
	for n, i := range items {
		name := strings.TrimSuffix(i.Name, "/")
		switch {
		case i.Typeflag == tar.TypeDir && n%2 == 0:
			lower = append(lower, i, fileItem(name+"/gone", "x"), dirItem(name+"/away"), fileItem(name+"/away/x", "x"))
			upper = append(upper, i, fileItem(name+"/.wh.gone", ""), fileItem(name+"/.wh.away", ""), fileItem(name+"/.wh.never", ""))
		case i.Typeflag == tar.TypeDir:
			lower = append(lower, fileItem(name, "was a file"))
			upper = append(upper, i)
		case i.Typeflag != tar.TypeLink && (n%3 == 0 || targets[name]):
			lower = append(lower, i)
		case n%3 == 1:
			lower = append(lower, dirItem(name), fileItem(name+"/inside", "x"))
			upper = append(upper, i)
		default:
			upper = append(upper, i)
		}
	}
	return lower, upper
}

// dockerArchive is what docker save wrote before it wrote layouts.
func dockerArchive(t testing.TB, im v1.Image) []byte {
	t.Helper()
	config, err := im.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := im.Layers()
	if err != nil {
		t.Fatal(err)
	}
	items := []item{fileItem("config.json", string(config))}
	var names []string
	for n, l := range layers {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		dir := string(rune('a' + n))
		items = append(items, dirItem(dir), fileItem(dir+"/data", string(content)), linkItem(dir+"/layer.tar", "../"+dir+"/data"))
		names = append(names, `"`+dir+`/layer.tar"`)
	}
	manifest := `[{"Config":"config.json","RepoTags":["acme:1"],"Layers":[` + strings.Join(names, ",") + `]}]`
	return tarOf(t, append(items, fileItem("manifest.json", manifest))...)
}

// show is a root in few words: paths with their types, contents and targets.
func show(t testing.TB, h snapshot.Host) string {
	t.Helper()
	var lines []string
	var paths []string
	at := map[string]int{}
	err := h.Files(t.Context(), ".", func(f snapshot.File, err error) error {
		line := f.Path + " " + string(rune(f.Type))
		if f.Link != "" {
			line += " =" + f.Link
		}
		if f.Target != "" {
			line += " >" + f.Target
		}
		if f.Type == snapshot.Regular {
			paths = append(paths, f.Path)
			at[f.Path] = len(lines)
		}
		lines = append(lines, line)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = h.Read(t.Context(), paths, func(p string, r io.Reader, err error) error {
		if err != nil {
			return err
		}
		b, err := io.ReadAll(io.LimitReader(r, 1<<16))
		lines[at[p]] += " " + string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines[1:], "\n")
}

// merged is the root of an image of these layers.
func merged(t testing.TB, layers ...[]item) (*Image, error) {
	var tars [][]byte
	for _, l := range layers {
		tars = append(tars, tarOf(t, l...))
	}
	dir := writeLayout(t, t.TempDir(), map[string]v1.Image{"": imageOf(t, goruntime.GOARCH, "plain", tars...)})
	im, err := OpenImage(t.Context(), dir, "", t.TempDir(), nil)
	if err == nil {
		t.Cleanup(func() { im.Close() })
	}
	return im, err
}

type layersCase struct {
	name   string
	layers [][]item
	want   string // what show says; an error begins with "error: "
}

var layersCases = []layersCase{
	{"whiteouts", [][]item{
		{dirItem("a"), fileItem("a/x", "1"), fileItem("a/y", "2"), dirItem("b"), fileItem("b/z", "3")},
		{fileItem("a/.wh.x", ""), fileItem(".wh.b", ""), fileItem("a/.wh.none", "")},
	}, "a d\na/y f 2"},
	{"an opaque folder", [][]item{
		{dirItem("a"), fileItem("a/x", "1"), dirItem("a/s"), fileItem("a/s/y", "2")},
		{dirItem("a"), fileItem("a/new", "n"), fileItem("a/.wh..wh..opq", ""), dirItem("a/s"), fileItem("a/s/z", "3")},
	}, "a d\na/new f n\na/s d\na/s/z f 3"},
	{"a folder whited out and made again", [][]item{
		{dirItem("a"), fileItem("a/x", "1")},
		{dirItem("a"), fileItem("a/y", "2"), fileItem(".wh.a", "")},
	}, "a d\na/y f 2"},
	{"whited out, after something came into it", [][]item{
		{dirItem("a"), dirItem("a/b"), fileItem("a/b/x", "1")},
		{fileItem("a/b/y", "2"), fileItem(".wh.a", "")},
	}, "a d\na/b d\na/b/y f 2"},
	{"a file for a folder, a folder for a file", [][]item{
		{dirItem("a"), fileItem("a/x", "1"), fileItem("b", "2")},
		{fileItem("a", "now a file"), dirItem("b"), fileItem("b/y", "3")},
	}, "a f now a file\nb d\nb/y f 3"},
	{"folders that no layer has", [][]item{{fileItem("a/b/c", "1")}}, "a d\na/b d\na/b/c f 1"},
	{"hard links within and across", [][]item{
		{fileItem("a", "1"), hardItem("b", "a"), fileItem("alone", "2")},
		{hardItem("c", "/a"), hardItem("d", "./alone"), fileItem("a", "new")},
	}, "a f new\nalone f =alone 2\nb f =b 1\nc f =b 1\nd f =alone 2"},
	{"a hard link in place of its own target", [][]item{
		{fileItem("a", "1"), hardItem("b", "a")}, {hardItem("b", "a"), hardItem("a", "a")},
	}, "a f =a 1\nb f =a 1"},
	{"a hard link to a link", [][]item{{fileItem("a", "1"), linkItem("l", "a"), hardItem("m", "l")}},
		"a f 1\nl l >a\nm l >a"},
	{"a hard link whose target goes", [][]item{
		{fileItem("a", "1"), hardItem("b", "a")}, {fileItem(".wh.a", "")},
	}, "b f 1"},
	{"below links", [][]item{
		{dirItem("usr"), dirItem("usr/bin"), linkItem("bin", "usr/bin"), linkItem("up", "../../../usr"), linkItem("abs", "/usr/bin")},
		{fileItem("bin/a", "1"), fileItem("up/b", "2"), fileItem("abs/c", "3"), hardItem("bin/d", "abs/c")},
	}, "abs l >/usr/bin\nbin l >usr/bin\nup l >../../../usr\nusr d\nusr/b f 2\nusr/bin d\nusr/bin/a f 1\nusr/bin/c f =usr/bin/c 3\nusr/bin/d f =usr/bin/c 3"},
	{"below a link to nowhere", [][]item{
		{linkItem("l", "/not/../there")}, {fileItem("l/a", "1")},
	}, "l l >/not/../there\nthere d\nthere/a f 1"},
	{"a whiteout below a link", [][]item{
		{dirItem("usr"), fileItem("usr/a", "1"), linkItem("l", "usr")}, {fileItem("l/.wh.a", "")},
	}, "l l >usr\nusr d"},
	{"a folder for a link", [][]item{
		{dirItem("usr"), linkItem("l", "usr")}, {dirItem("l"), fileItem("l/a", "1")},
	}, "l d\nl/a f 1\nusr d"},
	{"a device like a whiteout", [][]item{
		{fileItem("a", "1")}, {item{Header: tar.Header{Name: "a", Typeflag: tar.TypeChar}}},
	}, "a c"},
	{"what AUFS kept", [][]item{
		{dirItem(".wh..wh.plnk"), fileItem(".wh..wh.plnk/1.2", "1"), hardItem("a", ".wh..wh.plnk/1.2"), fileItem(".wh..wh.aufs", "")},
	}, "a f 1"},
	{"names", [][]item{{fileItem("/a", "1"), fileItem("./b//c", "2"), fileItem("b/./\xff \n", "3")}},
		"a f 1\nb d\nb/c f 2\nb/\xff \n f 3"},
	{"a circle", [][]item{{linkItem("a", "b"), linkItem("b", "a"), fileItem("a/x", "1")}}, `error: "a/x": too many links`},
	{"dots", [][]item{{dirItem("a")}, {fileItem("a/../../x", "1")}}, `error: layer 2 of 2`},
	{"dots in a hard link", [][]item{{fileItem("a", "1"), hardItem("b", "../a")}}, `error: "b": a hard link to "../a"`},
	{"a hard link to nothing", [][]item{{hardItem("b", "a")}}, `error: "b": a hard link to "a", which isn't there`},
	{"a hard link to a folder", [][]item{{dirItem("a"), hardItem("b", "a")}}, `error: which is a folder`},
	{"a file for the root", [][]item{{linkItem(".", "x")}}, `error: the place of the root`},
	{"a whiteout of the folder above", [][]item{{fileItem("a/.wh...", "")}}, `error: a whiteout of no name`},
	{"a long name", [][]item{{fileItem(strings.Repeat("x", 256), "")}}, `error: a name that no file system takes`},
	{"a long path", [][]item{{fileItem(strings.Repeat("x/", 2050)+"x", "")}}, `error: a name of more than 4096`},
	{"an owner", [][]item{{item{Header: tar.Header{Name: "a", Uid: math.MaxUint32 + 1}}}}, `error: the owner`},
}

func TestLayers(t *testing.T) {
	for _, c := range layersCases {
		t.Run(c.name, func(t *testing.T) {
			im, err := merged(t, c.layers...)
			if want, bad := strings.CutPrefix(c.want, "error: "); bad {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := show(t, im); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
