/* n lines of 64 points of the Mandelbrot set, at most 200 steps each, in scalar double precision; the steps. */
#include "kernel.h"

uint64_t kernel(uint64_t n)
{
    uint64_t steps = 0;
    for (uint64_t line = 0; line < n; line++) {
        double ci = (double)(line % 64) / 32.0 - 1.0;
        for (int column = 0; column < 64; column++) {
            double cr = (double)column / 24.0 - 2.0, zr = 0.0, zi = 0.0;
            int step = 0;
            while (step < 200) {
                double rr = zr * zr, ii = zi * zi;
                if (rr + ii > 4.0)
                    break;
                zi = 2.0 * zr * zi + ci;
                zr = rr - ii + cr;
                step++;
            }
            steps += (uint64_t)step;
        }
    }
    return steps;
}
