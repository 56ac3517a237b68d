package archive

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// An archive that several keys have signed is good when the host has one of them;
// those that are good are named.
func TestSeveralSigners(t *testing.T) {
	one, two, three := newKey(t, 0), newKey(t, 0), newKey(t, 0)
	r := newRepo(t, one, bash)
	var b bytes.Buffer
	w, err := clearsign.EncodeMulti(&b, []*packet.PrivateKey{one.PrivateKey, two.PrivateKey}, atDate())
	if err != nil {
		t.Fatal(err)
	}
	w.Write(r.files["dists/bullseye/Release"])
	w.Close()
	for _, tt := range []struct{ keys, good openpgp.EntityList }{
		{openpgp.EntityList{one}, openpgp.EntityList{one}},
		{openpgp.EntityList{three, two}, openpgp.EntityList{two}},
		{openpgp.EntityList{one, two, three}, openpgp.EntityList{one, two}},
		{openpgp.EntityList{three}, nil},
	} {
		var want []string
		for _, k := range tt.good {
			want = append(want, fingerprint(k))
		}
		slices.Sort(want)
		rel, err := verify(b.Bytes(), tt.keys)
		if (err == nil) != (len(want) > 0) || err == nil && !slices.Equal(rel.signedBy, want) {
			t.Errorf("got %+v, %v instead of %v", rel, err, want)
		}
	}
}

// A flat archive: no components, paths below its URI.
func TestFlatArchive(t *testing.T) {
	key := newKey(t, 0)
	index := []byte(strings.Replace(bash.stanza(), "Filename: pool", "Filename: ./pool", 1))
	release := fmt.Sprintf("Label: My Tools\nDate: %s\nSHA256:\n %s %d ./Packages\n %s %d Packages\n", written.Format(time.RFC1123),
		sha(index).Encoded(), len(index), sha(index).Encoded(), len(index))
	for _, suite := range []string{"./", "/", "sub/folder/"} {
		dir := strings.TrimPrefix(strings.TrimPrefix(suite, "."), "/")
		srv := serve(t, map[string][]byte{dir + "InRelease": clearSign(t, key, release), dir + "Packages": index})
		h := hostWith(t, srv.URL+"/debian", key)
		h.write(t, "etc/apt/sources.list", []byte("deb "+srv.URL+"/debian/ "+suite+"\n"))
		var n notes
		res := locate(t, Debian{Host: h, Store: newStore(t), Fetch: quick(&n)}, bash.Want)
		if len(res.Candidates) != 1 || res.Candidates[0].URLs[0] != srv.URL+"/debian/"+bash.path() {
			t.Errorf("%s: got %+v; problems %v", suite, res.Candidates, res.Problems)
		}
	}
}

// Some archives list an index in a compression that they don't serve, and one for
// all architectures that isn't there at all, as Debian's security archive does.
func TestListedAndNotServed(t *testing.T) {
	key := newKey(t, 0)
	r := newRepo(t, key, bash)
	r.extra = "Architectures: amd64 arm64\n"
	r.build(t)
	for name := range r.files {
		if strings.HasSuffix(name, "amd64/Packages.xz") || strings.Contains(name, "binary-all") {
			delete(r.files, name)
		}
	}
	srv := serve(t, r.files)
	var n notes
	res := locate(t, Debian{Host: hostWith(t, srv.URL+"/debian", key), Store: newStore(t), Fetch: quick(&n)}, bash.Want, unknown)
	if names(res) != "bash@debian-bullseye" || len(res.Problems) != 0 {
		t.Errorf("got %s; problems %v", names(res), res.Problems)
	}
}

// The same file in two archives is two candidates, since one of them may drop it;
// another file under the same name is a third, to be told apart by proof.
func TestSeveralSuites(t *testing.T) {
	key := newKey(t, 0)
	h := newHost(t)
	h.write(t, "etc/apt/trusted.gpg", publicKey(t, key))
	h.write(t, "etc/apt/sources.list", []byte(`
deb http://mirror.example/debian bullseye main
deb http://mirror.example/debian bullseye main contrib
deb http://two.mirror.example/debian bullseye main
deb http://mirror.example/rebuilt bullseye main
`))
	rebuilt := bash
	rebuilt.content = []byte("built again")
	for place, d := range map[string]deb{"mirror.example_debian": bash, "two.mirror.example_debian": bash, "mirror.example_rebuilt": rebuilt} {
		base := "var/lib/apt/lists/" + place + "_dists_bullseye_"
		h.write(t, base+"InRelease", newRepo(t, key, d).files["dists/bullseye/InRelease"])
		h.write(t, base+"main_binary-amd64_Packages", []byte(d.stanza()))
	}
	var n notes
	res := locate(t, Debian{Host: h, Store: newStore(t), Offline: true, Fetch: quick(&n)}, bash.Want)
	if len(res.Candidates) != 3 || len(res.Archives) != 3 {
		t.Fatalf("got %+v; problems %v", res.Candidates, res.Problems)
	}
	same := 0
	for _, c := range res.Candidates {
		if c.SHA256 == bash.sum() {
			same++
		}
	}
	if same != 2 {
		t.Errorf("%d archives have it", same)
	}
	if res.Archives[0].Name != "debian-bullseye" || res.Archives[1].Name != "debian-bullseye-2" {
		t.Errorf("archives are %+v", res.Archives)
	}
}
