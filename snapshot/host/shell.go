package host

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/stead-env/stead/snapshot"
)

// Options say how a host is read by commands.
type Options struct {
	Temp     string // folder for temporary files
	Cache    string // folder that keeps what was received until Finish; "" for none
	Progress snapshot.Progress
	Rate     int64 // most bytes for each second that are read from it; 0 for no limit
	// Lookup opens a content by its SHA-256 where there is a copy: it isn't sent again.
	Lookup   func(sha256 string) (io.ReadCloser, bool)
	Terminal bool     // somebody is there to answer what ssh asks
	Skip     []string // absolute paths of this machine that are left out, by sudo
}

// Shell is a host read by the few commands of script.go. They write nothing there.
type Shell struct {
	conn connection
	name string // for messages
	root string
	opts Options
	wire wire
	*probed
	skip map[string]bool

	mu   sync.Mutex // listing
	list *listing

	got   *received
	slots chan struct{} // commands that may run at once
	more  sync.Once     // says that a file has attributes that were not listed
}

var _ snapshot.Host = (*Shell)(nil)

// SSH opens the host at ssh://[user@]host[:port].
func SSH(ctx context.Context, address string, o Options) (*Shell, error) {
	c, err := parseSSH(address)
	if err != nil {
		return nil, err
	}
	c.terminal = o.Terminal
	s := &Shell{conn: c, name: c.address(), root: "/", opts: o}
	return s.open(ctx, tools{zip: true})
}

// Sudo opens the host below a folder of this machine, as root by way of sudo.
func Sudo(ctx context.Context, root string, o Options) (*Shell, error) {
	return bySudo(ctx, &sudoConnection{root: root}, o)
}

func bySudo(ctx context.Context, c *sudoConnection, o Options) (*Shell, error) {
	abs, err := filepath.Abs(c.root)
	if err == nil {
		if real, err := filepath.EvalSymlinks(abs); err == nil {
			abs = real
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening host %s: %w", c.root, err)
	}
	c.root = abs
	s := &Shell{conn: c, name: abs, root: abs, opts: o, skip: map[string]bool{}}
	for _, p := range o.Skip {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		if rel, err := filepath.Rel(abs, p); err == nil && filepath.IsLocal(rel) && rel != "." {
			s.skip[rel] = true
		}
	}
	return s.open(ctx, tools{sudo: true})
}

// maxCommands is how many commands run at once: sshd takes ten sessions by default.
const maxCommands = 4

// open asks what there is to read the host with, and who reads.
func (s *Shell) open(ctx context.Context, t tools) (*Shell, error) {
	s.wire.rate, s.slots = s.opts.Rate, make(chan struct{}, maxCommands)
	s.probed = &probed{tools: t}
	err := s.again(ctx, func() error {
		return s.ask(ctx, question{script: probeScript, read: func(r *bufio.Reader) error {
			p, err := readProbe(r)
			if err != nil {
				return err
			}
			p.tools.zip, p.tools.sudo = t.zip, t.sudo
			s.probed = p
			_, err = io.Copy(io.Discard, r)
			return err
		}})
	})
	if err == nil {
		s.got, err = openReceived(s.opts.Cache, s.opts.Temp)
	}
	if err != nil {
		return nil, errors.Join(err, s.conn.Close())
	}
	if _, here := s.conn.(*sudoConnection); here && s.root != "/" {
		s.live = snapshot.Live{}
	}
	s.reader()
	return s, nil
}

// reader settles as whom commands run, and says so.
func (s *Shell) reader() {
	user := cmp.Or(s.user, "an ordinary user")
	switch {
	case s.tools.sudo && s.root != "" && s.tools.root:
		s.note("reading %s as root, by sudo", s.name)
	case s.tools.root:
		s.note("reading %s as root", s.name)
	case s.have["sudo"]:
		s.tools.sudo, s.tools.root = true, true
		s.note("reading %s as %s, and as root by sudo", s.name, user)
	default:
		s.note("reading %s as %s, who isn't root: what can't be read is listed", s.name, user)
	}
}

func (s *Shell) note(format string, args ...any) {
	s.opts.Progress.Note("reading", fmt.Sprintf(format, args...))
}

// Address is how target.toml keeps the host.
func (s *Shell) Address() string { return s.name }

// Traffic tells the bytes that went to the host and came from it, without what a
// connection adds to them.
func (s *Shell) Traffic() (sent, received int64) { return s.wire.sent.Load(), s.wire.received.Load() }

// Live implements snapshot.Host.
func (s *Shell) Live(context.Context) (snapshot.Live, error) { return s.live, nil }

// Finish drops what an interrupted snapshot would go on with.
func (s *Shell) Finish() error { return s.got.forget() }

// Close ends the connection.
func (s *Shell) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.list != nil {
		err = s.list.Close()
		s.list = nil
	}
	return errors.Join(err, s.got.close(), s.conn.Close())
}

// tries is how often in a row something is asked again when the connection breaks.
const tries = 4

// again repeats fn while it fails because the connection broke.
func (s *Shell) again(ctx context.Context, fn func() error) error {
	wait := time.Second
	for try := 1; ; try++ {
		err := fn()
		var lost *lostError
		if !errors.As(err, &lost) || try == tries {
			return err
		}
		s.note("%s: trying again in %.0f s", err, wait.Seconds())
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		wait *= 2
	}
}

// Files implements snapshot.Host.
func (s *Shell) Files(ctx context.Context, dir string, fn func(snapshot.File, error) error) error {
	l, err := s.listing(ctx)
	if err != nil {
		return err
	}
	return l.Files(ctx, dir, fn)
}

// listing lists the host when it is first needed.
func (s *Shell) listing(ctx context.Context) (*listing, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list != nil {
		return s.list, nil
	}
	l, err := s.makeListing(ctx)
	if err != nil {
		return nil, fmt.Errorf("listing %s: %w", s.name, err)
	}
	s.list = l
	return l, nil
}

func (s *Shell) makeListing(ctx context.Context) (*listing, error) {
	words, err := prune(s.away())
	if err != nil {
		return nil, err
	}
	stdin := strings.Join(words, "\x00")
	var c complaints
	var l *listing
	a := newAttributes()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return s.again(gctx, func() (err error) {
			if l != nil {
				l.Close() //nolint:errcheck // it is incomplete
			}
			if l, err = newListing(s.opts.Temp); err != nil {
				return err
			}
			if s.have["find-printf"] {
				return s.find(gctx, l, stdin, &c)
			}
			return s.stat(gctx, l, stdin, &c)
		})
	})
	g.Go(func() error {
		return s.again(gctx, func() error {
			a = newAttributes()
			return s.attributes(gctx, a, stdin, &c)
		})
	})
	err = g.Wait()
	if err == nil {
		err = s.complete(ctx, l, a, &c)
	}
	if err != nil {
		if l != nil {
			l.Close() //nolint:errcheck // it is incomplete
		}
		return nil, err
	}
	return l, nil
}

// away are the folders that aren't entered.
func (s *Shell) away() []string {
	list := foreignMounts(s.mounts, s.root)
	for p := range s.skip {
		list = append(list, p)
	}
	return list
}

// complete puts attributes and complaints beside the entries.
func (s *Shell) complete(ctx context.Context, l *listing, a *attributes, c *complaints) error {
	if err := a.settle(ctx, l); err != nil {
		return err
	}
	l.xattrs = a.of
	for p, err := range a.bad {
		c.add(p, err)
	}
	if a.full {
		c.add(".", errors.New("not all extended attributes are listed: there are too many"))
	}
	if !s.have["mounts"] {
		s.note("%s doesn't tell its mounts: only the file system of its root is read", s.name)
	}
	if !s.have["getfattr"] {
		var read []string
		if s.have["getcap"] {
			read = append(read, "capabilities of files")
		}
		if s.folders() {
			read = append(read, "attributes of folders")
		}
		s.note("%s has no getfattr: of extended attributes %s are read", s.name, cmp.Or(strings.Join(read, " and "), "none"))
	}
	return c.note(ctx, l)
}

// attributes asks for all extended attributes.
func (s *Shell) attributes(ctx context.Context, a *attributes, stdin string, c *complaints) error {
	line := a.fattr
	switch {
	case s.have["getfattr"]:
	case s.have["getcap"]:
		line = a.cap
	default:
		return s.folderAttributes(ctx, a, stdin, c)
	}
	if err := s.folderAttributes(ctx, a, stdin, c); err != nil {
		return err
	}
	return s.ask(ctx, question{script: s.attributeScript(), stdin: strings.NewReader(stdin), zip: s.zipped(), complain: c.line,
		read: func(r *bufio.Reader) error { return a.read(r, line) }})
}

// folderAttributes asks for those of folders, where getfattr isn't there to tell all.
func (s *Shell) folderAttributes(ctx context.Context, a *attributes, stdin string, c *complaints) error {
	if !s.folders() {
		return nil
	}
	return s.ask(ctx, question{script: s.folderScript(), stdin: strings.NewReader(stdin), zip: s.zipped(), complain: c.line,
		read: func(r *bufio.Reader) error {
			return archives(r, func(h *tar.Header, _ io.Reader) error {
				for name, value := range tarXattrs(h) {
					a.set(relative(strings.TrimSuffix(h.Name, "/")), name, value)
				}
				return nil
			}, nil)
		}})
}

// tarXattrs are the extended attributes of a member that a manifest keeps.
func tarXattrs(h *tar.Header) map[string]string {
	kept := map[string]string{}
	for record, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(record, "SCHILY.xattr."); ok && keptXattr(name) {
			kept[name] = value
		}
	}
	return kept
}

func (s *Shell) zipped() bool { return s.tools.zip && s.have["gzip"] }

// find lists the host in one answer.
func (s *Shell) find(ctx context.Context, l *listing, stdin string, c *complaints) error {
	w := &lister{s: s, l: l, links: newLinker(), c: c}
	return s.ask(ctx, question{script: s.listScript(), stdin: strings.NewReader(stdin), zip: s.zipped(), complain: c.line,
		read: func(r *bufio.Reader) error {
			in := &foundReader{r: r}
			for {
				f, err := in.next()
				if err == io.EOF {
					if in.status > 1 {
						return fmt.Errorf("find ended with status %d", in.status)
					}
					return l.done()
				}
				if err == nil {
					err = w.add(f)
				}
				if err != nil {
					return err
				}
			}
		}})
}

// lister fills a listing.
type lister struct {
	s     *Shell
	l     *listing
	links *linker
	c     *complaints
	n     int64
}

// add takes an entry. One whose place changed while the host was listed is left out, and
// noted.
func (w *lister) add(f found) error {
	if w.skipped(f.Path) {
		return nil
	}
	if w.n++; w.n%4096 == 0 {
		w.s.opts.Progress.Report(snapshot.Event{Stage: "listing", Item: f.Path, Done: w.n, Unit: "files"})
	}
	switch {
	case strings.IndexByte("DU?", byte(f.Type)) >= 0:
		w.c.add(f.Path, errors.New("its type is unknown"))
		return nil
	case f.Path != "." && !snapshot.ValidPath(f.Path):
		w.c.add(f.Path[:min(len(f.Path), 200)], errors.New("its path is too long"))
		return nil
	}
	if f.Type == snapshot.Regular && f.names > 1 {
		f.Link = w.links.group(f.Path, f.inode, f.names)
	}
	err := w.l.add(f.File)
	if errors.Is(err, errOrder) && f.Path != "." && w.n > 1 {
		w.c.add(f.Path, errors.New("it was moved while the host was listed"))
		return nil
	}
	return err
}

// skipped reports whether a path is, or is below, one that is left out.
func (w *lister) skipped(p string) bool {
	if len(w.s.skip) == 0 {
		return false
	}
	for at := p; at != "."; at = filepath.Dir(at) {
		if w.s.skip[at] {
			return true
		}
	}
	return false
}
