package codec

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Compression configures [Compressed]. The zero value is a good default.
type Compression struct {
	// MinBytes is the shortest encoding worth compressing; shorter ones, and
	// those that do not get smaller, are stored plain behind one byte. Default
	// 1 KiB; negative compresses everything.
	MinBytes int
	// MaxBytes is the longest encoding before compression, a hard bound: Append
	// refuses to write more and Decode to unpack more, before it allocates.
	// Default 8 MiB, at most 1 GiB. Lowering it makes larger values that are
	// stored already unreadable.
	MaxBytes int
	// Level trades time for size, from 1 (fastest) to 4 (smallest). Default 1.
	// All levels read each other.
	Level int
}

const (
	defaultMinBytes = 1 << 10 // below, headers and tables eat what is saved
	defaultMaxBytes = 8 << 20 // eight times what the second tier takes by default
	limitMaxBytes   = 1 << 30

	// maxWindow is how far back the encoder looks; the encoder holds about twice
	// as much.
	maxWindow = 1 << 20
)

func (o Compression) withDefaults() (Compression, error) {
	if o.MinBytes == 0 {
		o.MinBytes = defaultMinBytes
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.Level == 0 {
		o.Level = int(zstd.SpeedFastest)
	}
	var faults []error
	if o.MaxBytes < 0 || o.MaxBytes > limitMaxBytes {
		faults = append(faults, fmt.Errorf("codec: Compression.MaxBytes is %d: want 1 to %d", o.MaxBytes, limitMaxBytes))
	}
	if o.Level < int(zstd.SpeedFastest) || o.Level > int(zstd.SpeedBestCompression) {
		faults = append(faults, fmt.Errorf("codec: Compression.Level is %d: want 1 to 4", o.Level))
	}
	return o, errors.Join(faults...)
}

// How an encoding stands in the bytes: the first one says.
const (
	storedPlain = 0x00
	storedZstd  = 0x01
)

// Compressed returns a codec that compresses what inner writes with zstd. Its
// name is "zstd(inner)"; options are no part of it, since every setting reads
// every other. It implements [Keyed] and [Checker] as inner does.
//
// Put encryption around compression, not inside: ciphertext does not compress.
// The length of a compressed value tells something about what is in it, so do
// not compress secrets together with text that a stranger chooses.
//
// The codec holds as many coders as GOMAXPROCS was when it was made; further
// callers wait. It starts no goroutine and needs no Close. A codec made in
// a testing/synctest bubble belongs to that bubble.
//
// The error names every field of opt that is wrong, and a nil inner.
func Compressed[T any](inner Codec[T], opt Compression) (Codec[T], error) {
	opt, err := opt.withDefaults()
	if inner == nil {
		err = errors.Join(errors.New("codec: Compressed needs a codec to wrap, got nil"), err)
	}
	if err != nil {
		return nil, err
	}
	c := &compressed[T]{inner: inner, opt: opt}
	// The coders are made here and not with the first use: they hand themselves
	// out over a channel, and one that is made in a bubble must not meet a
	// caller outside. They belong to whoever made the codec.
	coders := runtime.GOMAXPROCS(0)
	c.enc, err = zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevel(opt.Level)),
		zstd.WithEncoderConcurrency(coders),
		zstd.WithWindowSize(windowSize(opt.MaxBytes)),
		zstd.WithSingleSegment(true), // else short frames do not declare their size
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("codec: %w", err)
	}
	c.enc.EncodeAll(nil, nil)
	c.dec, err = zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(coders),
		zstd.WithDecoderLowmem(true),
		// No output ever grows past the buffer that it is given, which has the
		// declared size, which has been compared with MaxBytes.
		zstd.WithDecodeAllCapLimit(true),
		// A frame's window counts too, and the smallest is 1 KiB.
		zstd.WithDecoderMaxMemory(uint64(max(opt.MaxBytes, zstd.MinWindowSize))))
	if err != nil {
		return nil, fmt.Errorf("codec: %w", err)
	}
	return c, nil
}

// windowSize is the power of two that holds n bytes, within limits.
func windowSize(n int) int {
	size := zstd.MinWindowSize
	for size < n && size < maxWindow {
		size *= 2
	}
	return size
}

type compressed[T any] struct {
	inner Codec[T]
	opt   Compression
	enc   *zstd.Encoder
	dec   *zstd.Decoder
	space scratch
}

func (c *compressed[T]) Name() string { return "zstd(" + c.inner.Name() + ")" }

// Check implements [Checker].
func (c *compressed[T]) Check() error { return checkInner(c.inner) }

func (c *compressed[T]) Append(dst []byte, v T) ([]byte, error) {
	out, err := c.inner.Append(append(dst, storedPlain), v)
	return c.pack(dst, out, err)
}

func (c *compressed[T]) AppendKeyed(dst []byte, key string, v T) ([]byte, error) {
	out, err := AppendFor(c.inner, append(dst, storedPlain), key, v)
	return c.pack(dst, out, err)
}

// pack compresses the plain encoding that out ends with, behind dst and the
// flag, if that makes it smaller.
func (c *compressed[T]) pack(dst, out []byte, err error) ([]byte, error) {
	if err != nil {
		return dst, err
	}
	at := len(dst) + 1
	plain := out[at:]
	if len(plain) > c.opt.MaxBytes {
		return dst, fmt.Errorf("%w: zstd: %d bytes, at most %d", ErrTooLarge, len(plain), c.opt.MaxBytes)
	}
	if len(plain) < c.opt.MinBytes || len(plain) == 0 {
		return out, nil
	}
	buf := c.space.get(0)
	defer c.space.put(buf)
	buf.b = c.enc.EncodeAll(plain, buf.b)
	if len(buf.b) >= len(plain) {
		return out, nil
	}
	out[at-1] = storedZstd
	return append(out[:at], buf.b...), nil
}

func (c *compressed[T]) Decode(src []byte, v *T) error {
	return c.unpack(src, v, c.inner.Decode)
}

func (c *compressed[T]) DecodeKeyed(src []byte, key string, v *T) error {
	return c.unpack(src, v, func(src []byte, v *T) error { return DecodeFor(c.inner, src, key, v) })
}

// unpack gives the plain encoding to decode. What it decompresses goes into
// a buffer that is used again, as no codec keeps what it decodes.
func (c *compressed[T]) unpack(src []byte, v *T, decode func([]byte, *T) error) error {
	var zero T
	*v = zero
	if len(src) == 0 {
		return malformed("zstd", 0, "empty", nil)
	}
	flag, body := src[0], src[1:]
	switch flag {
	case storedPlain:
		if len(body) > c.opt.MaxBytes {
			return fmt.Errorf("%w: zstd: %d bytes, at most %d", ErrTooLarge, len(body), c.opt.MaxBytes)
		}
		return decode(body, v)
	case storedZstd:
	default:
		return malformed("zstd", 0, "unknown flag", nil)
	}
	size, err := c.declaredSize(body)
	if err != nil {
		return err
	}
	buf := c.space.get(size)
	defer c.space.put(buf)
	plain, err := c.dec.DecodeAll(body, buf.b)
	if err != nil {
		return malformed("zstd", 1, "does not decompress", err)
	}
	if len(plain) != size {
		return malformed("zstd", 1, "decompresses to another size than it declares", nil)
	}
	return decode(plain, v)
}

// declaredSize returns the content size in the frame's header. Append always
// writes it, so a frame without is not ours.
func (c *compressed[T]) declaredSize(frame []byte) (int, error) {
	var h zstd.Header
	if err := h.Decode(frame); err != nil {
		return 0, malformed("zstd", 1, "no frame", err)
	}
	if h.Skippable || !h.HasFCS {
		return 0, malformed("zstd", 1, "frame without a content size", nil)
	}
	if h.FrameContentSize > uint64(c.opt.MaxBytes) {
		return 0, fmt.Errorf("%w: zstd: frame declares %d bytes, at most %d", ErrTooLarge, h.FrameContentSize, c.opt.MaxBytes)
	}
	// A block has at least 4 bytes and yields at most 128 KiB, so a small frame
	// that declares much does not get the buffer for it.
	if h.FrameContentSize > uint64(len(frame)/4+1)<<17 {
		return 0, malformed("zstd", 1, "frame declares more than it can hold", nil)
	}
	return int(h.FrameContentSize), nil
}

// scratch lends buffers.
type scratch struct{ pool sync.Pool } // of *buffer

type buffer struct{ b []byte }

// keepScratch is the largest buffer that is kept: that of a value at the default
// limit of the second tier.
const keepScratch = 1 << 20

// get returns an empty buffer with room for exactly size bytes where size is
// not zero: the decompressor takes all the room there is.
func (s *scratch) get(size int) *buffer {
	buf, _ := s.pool.Get().(*buffer)
	if buf == nil {
		buf = &buffer{}
	}
	if size == 0 {
		return buf
	}
	if cap(buf.b) < size {
		buf.b = make([]byte, 0, size)
	}
	buf.b = buf.b[:0:size]
	return buf
}

func (s *scratch) put(buf *buffer) {
	if cap(buf.b) > keepScratch {
		return
	}
	buf.b = buf.b[:0]
	s.pool.Put(buf)
}
