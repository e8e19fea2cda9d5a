// Letterbox one picture into one slot of a batch: resize, convert to BGR, turn, pad, in one pass.
//
// One thread writes one pixel of the slot, and nothing else. Whole numbers only, so that a GPU, a C++ compiler and
// the NumPy twin (letterbox_twin.py) give the same bytes. What is computed is what the CPU path computes
// (vedette_server/picture/convert.py): OpenCV's bilinear resize of each plane, luma to the fitted size and chroma to
// half its width (4:2:2), each rounded to 8 bits; then swscale's conversion, with its 13-bit coefficients and its
// rounding down of every product. Where width and height are both odd, swscale takes another way, with chroma for every
// column and without the rounding down; that is followed, but not bit for bit. Samples of 10 bits are resized with all
// their bits, then rounded to 8.
//
// This file is also C++: the tests compile it without CUDA and run it over the whole grid.

#ifdef __CUDACC__
#define VEDETTE_DEVICE __device__ __forceinline__
#define VEDETTE_KERNEL extern "C" __global__ void __launch_bounds__(256)
#else
#define VEDETTE_DEVICE static inline
#define VEDETTE_KERNEL static void
struct Place3 {
    unsigned x, y, z;
};
static thread_local Place3 blockIdx, blockDim, threadIdx;
#endif

typedef unsigned char Byte;

// NV12 and P010 have two planes, I420 three, each of its own; a sample of P010 has 16 bits, low byte first, of which the
// upper 10 count.
enum { NV12 = 0, BGR = 1, RGB = 2, I420 = 3, P010 = 4 };

// Weights have 11 bits, as OpenCV's have.
enum { WEIGHT_BITS = 11, WEIGHT_ONE = 1 << WEIGHT_BITS };

// The two source places that one target place lies between, and the weight of the second.
struct Between {
    int low, high, weight;
};

// Pixel centres stand at half places. Below 2^31 as long as 2 * target * source is: checked on the host.
VEDETTE_DEVICE Between between(int place, int target, int source) {
    int across = (2 * place + 1) * source - target;
    unsigned above = across < 0 ? 0u : (unsigned)across;
    unsigned whole = 2u * (unsigned)target;
    int low = (int)(above / whole);
    int weight = (int)((((above % whole) << WEIGHT_BITS) + (unsigned)target) / whole);
    Between found;
    found.low = low < source - 1 ? low : source - 1;
    found.high = low + 1 < source - 1 ? low + 1 : source - 1;
    found.weight = weight;
    return found;
}

// One channel of a plane whose pixels are `step` bytes wide.
VEDETTE_DEVICE int sample(const Byte *plane, int pitch, int step, int channel, Between x, Between y) {
    const Byte *upper = plane + (long long)y.low * pitch + channel;
    const Byte *lower = plane + (long long)y.high * pitch + channel;
    int top = upper[x.low * step] * (WEIGHT_ONE - x.weight) + upper[x.high * step] * x.weight;
    int bottom = lower[x.low * step] * (WEIGHT_ONE - x.weight) + lower[x.high * step] * x.weight;
    return (top * (WEIGHT_ONE - y.weight) + bottom * y.weight + (1 << (2 * WEIGHT_BITS - 1))) >> (2 * WEIGHT_BITS);
}

VEDETTE_DEVICE unsigned ten(const Byte *place) { return ((unsigned)place[1] << 8 | place[0]) >> 6; }

// The same of 10 bits, rounded once, to 8. 1023 times both weights is below 2^32; with the half it would not be.
VEDETTE_DEVICE int sample_of_10(const Byte *plane, int pitch, int step, int channel, Between x, Between y) {
    const Byte *upper = plane + (long long)y.low * pitch + channel;
    const Byte *lower = plane + (long long)y.high * pitch + channel;
    unsigned right = (unsigned)x.weight, left = WEIGHT_ONE - right, down = (unsigned)y.weight;
    unsigned top = ten(upper + x.low * step) * left + ten(upper + x.high * step) * right;
    unsigned bottom = ten(lower + x.low * step) * left + ten(lower + x.high * step) * right;
    unsigned mixed = top * (WEIGHT_ONE - down) + bottom * down;
    unsigned eight = ((mixed >> 1) + (1u << (2 * WEIGHT_BITS))) >> (2 * WEIGHT_BITS + 1);
    return eight > 255 ? 255 : (int)eight;
}

VEDETTE_DEVICE Byte clipped(int value) { return (Byte)(value < 0 ? 0 : value > 255 ? 255 : value); }

// `width` and `height` are the slot's; `left`, `top`, `fit_width` and `fit_height` say where in it the upright picture
// stands. `turns` counts quarter turns clockwise. The six last are the colour's: an offset, and factors of 13 bits. Where
// chroma is interleaved, `second` is `chroma` once more.
VEDETTE_KERNEL letterbox(const Byte *luma, long long luma_at, const Byte *chroma, long long chroma_at,
                         const Byte *second, long long second_at, Byte *target, long long target_at, int kind,
                         int luma_pitch, int chroma_pitch, int source_width, int source_height, int width, int height,
                         int left, int top, int fit_width, int fit_height, int turns, int pad, int y_offset, int y_gain,
                         int v_to_red, int u_to_green, int v_to_green, int u_to_blue) {
    int column = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    int row = (int)(blockIdx.y * blockDim.y + threadIdx.y);
    if (column >= width || row >= height) return;
    Byte *pixel = target + target_at + ((long long)row * width + column) * 3;
    int across = column - left, down = row - top;
    if (across < 0 || down < 0 || across >= fit_width || down >= fit_height) {
        pixel[0] = pixel[1] = pixel[2] = (Byte)pad;
        return;
    }
    // Back to the picture as it is coded, before the turn.
    int turned = turns & 1;
    int coded_width = turned ? fit_height : fit_width, coded_height = turned ? fit_width : fit_height;
    int x = turns == 0 ? across : turns == 1 ? down : turns == 2 ? coded_width - 1 - across : coded_width - 1 - down;
    int y = turns == 0 ? down : turns == 1 ? coded_height - 1 - across : turns == 2 ? coded_height - 1 - down : across;

    Between at_x = between(x, coded_width, source_width), at_y = between(y, coded_height, source_height);
    const Byte *first = luma + luma_at;
    if (kind == BGR || kind == RGB) {
        for (int channel = 0; channel < 3; channel++) {
            int from = kind == RGB ? 2 - channel : channel;
            pixel[channel] = (Byte)sample(first, luma_pitch, 3, from, at_x, at_y);
        }
        return;
    }
    const Byte *of_u = chroma + chroma_at, *of_v = second + second_at;
    int odd = coded_width & coded_height & 1, half = odd << 12;
    int chroma_column = odd ? x : x >> 1, chroma_columns = odd ? coded_width : (coded_width + 1) >> 1;
    Between chroma_x = between(chroma_column, chroma_columns, (source_width + 1) >> 1);
    Between chroma_y = between(y, coded_height, (source_height + 1) >> 1);
    int light, u, v;
    if (kind == P010) {
        light = sample_of_10(first, luma_pitch, 2, 0, at_x, at_y);
        u = sample_of_10(of_u, chroma_pitch, 4, 0, chroma_x, chroma_y) - 128;
        v = sample_of_10(of_v, chroma_pitch, 4, 2, chroma_x, chroma_y) - 128;
    } else {
        int planar = kind == I420, step = planar ? 1 : 2;
        light = sample(first, luma_pitch, 1, 0, at_x, at_y);
        u = sample(of_u, chroma_pitch, step, 0, chroma_x, chroma_y) - 128;
        v = sample(of_v, chroma_pitch, step, planar ? 0 : 1, chroma_x, chroma_y) - 128;
    }
    int grey = ((light - y_offset) * y_gain + half) >> 13;
    pixel[0] = clipped(grey + ((u * u_to_blue + half) >> 13));
    pixel[1] = clipped(grey + ((u * u_to_green + half) >> 13) + ((v * v_to_green + half) >> 13));
    pixel[2] = clipped(grey + ((v * v_to_red + half) >> 13));
}

#ifndef __CUDACC__
// The grid, as a GPU would go through it.
extern "C" void letterbox_grid(int grid_x, int grid_y, int block_x, int block_y, const Byte *luma, long long luma_at,
                               const Byte *chroma, long long chroma_at, const Byte *second, long long second_at,
                               Byte *target, long long target_at, const int *numbers) {
    const int *n = numbers;
    blockDim.x = (unsigned)block_x, blockDim.y = (unsigned)block_y;
    for (blockIdx.y = 0; blockIdx.y < (unsigned)grid_y; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < (unsigned)grid_x; blockIdx.x++)
            for (threadIdx.y = 0; threadIdx.y < (unsigned)block_y; threadIdx.y++)
                for (threadIdx.x = 0; threadIdx.x < (unsigned)block_x; threadIdx.x++)
                    letterbox(luma, luma_at, chroma, chroma_at, second, second_at, target, target_at, n[0], n[1], n[2],
                              n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12], n[13], n[14], n[15],
                              n[16], n[17], n[18]);
}
#endif
