package host

import (
	"archive/tar"
	"strings"
	"testing"

	"github.com/stead-env/stead/snapshot"
)

// FuzzEntries applies entries of few names to each other, and holds the books of the
// tree against the tree.
func FuzzEntries(f *testing.F) {
	f.Add([]byte("\x05\x00\x00\x05\x07\x00\x02\x01\x00\x01\x03\x01\xff\x00\x00\x00\x04\x00"))
	f.Add([]byte("\x02\x00\x03\x00\x08\x00\xff\x00\x00\x01\x01\x08\x00\x06\x00\x05\x00\x00"))
	names := []string{"a", "b", "a/b", "b/a", "a/b/a", "b/b/b", ".wh.a", "a/.wh.b", "a/.wh..wh..opq", ".wh..wh.plnk/a", ".", "/a/../b", "b/.wh.a/b"}
	targets := []string{"a", "/b", "../../a", "b/a", ".", "..", "none/../a", ".wh..wh.plnk/a", "a/b/a"}
	kinds := []byte{tar.TypeReg, tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeFifo, tar.TypeDir, 'x', tar.TypeGNUSparse}
	f.Fuzz(func(t *testing.T, data []byte) {
		tr := newTree()
		for ; len(data) >= 3; data = data[3:] {
			if data[0] == 0xff {
				tr.now++
				continue
			}
			name, kind := names[int(data[1])%len(names)], kinds[int(data[0])%len(kinds)]
			_ = tr.apply(entry{Header: &tar.Header{Name: name, Typeflag: kind, Linkname: targets[int(data[2])%len(targets)]}})
		}
		nodes, uses := 0, map[*imageFile]int32{}
		var walk func(n *node, path string)
		walk = func(n *node, path string) {
			if nodes++; nodes > 10_000 {
				t.Fatal("the tree goes in circles")
			}
			if n.in.typ != snapshot.Dir && n.kids != nil || n.in.typ == snapshot.Dir && n.kids == nil {
				t.Errorf("%s: a %c with content, or a folder without", path, n.in.typ)
			}
			for name, kid := range n.kids {
				if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
					t.Errorf("%s has a %q", path, name)
				}
				uses[kid.in]++
				walk(kid, path+"/"+name)
			}
		}
		walk(tr.root, "")
		if tr.nodes != nodes-1 {
			t.Errorf("%d nodes, and %d in the books", nodes-1, tr.nodes)
		}
		for in, n := range uses {
			if in.names != n {
				t.Errorf("a %c has %d names, and %d in the books", in.typ, n, in.names)
			}
		}
	})
}
