/* A worker in C: length-prefixed frames, capitals.  cc -O2 -o upper upper.c */
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char READY[] =
    "{\"type\":\"ready\",\"version\":1,\"framing\":\"length-prefixed\",\"max_in_flight\":4,\"name\":\"upper\"}\n";

static int read_size(uint32_t *size) {
    unsigned char b[4];
    if (fread(b, 1, 4, stdin) != 4) return 0;
    *size = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    return 1;
}

static void write_size(uint32_t size) {
    unsigned char b[4] = {size >> 24, size >> 16, size >> 8, size};
    fwrite(b, 1, 4, stdout);
}

static char *read_bytes(uint32_t size) { /* with a NUL behind them */
    char *bytes = malloc((size_t)size + 1);
    if (bytes == NULL || fread(bytes, 1, size, stdin) != size) exit(1);
    bytes[size] = '\0';
    return bytes;
}

int main(void) {
    int c;
    uint32_t header_size, body_size;
    while ((c = getchar()) != '\n') /* the hello; a careful child looks for its version in it */
        if (c == EOF) return 1;
    fputs(READY, stdout);
    fflush(stdout);
    while (read_size(&header_size) && read_size(&body_size)) {
        char *header = read_bytes(header_size), *body = read_bytes(body_size), answer[64];
        unsigned long long id;
        if (sscanf(header, "{\"type\":\"task\",\"id\":%llu", &id) == 1) {
            int length = snprintf(answer, sizeof answer, "{\"id\":%llu,\"exit_code\":0}", id);
            for (uint32_t i = 0; i < body_size; i++) body[i] = (char)toupper((unsigned char)body[i]);
            write_size((uint32_t)length);
            write_size(body_size);
            fwrite(answer, 1, (size_t)length, stdout);
            fwrite(body, 1, body_size, stdout);
            fflush(stdout);
        }
        free(header);
        free(body);
    }
    return 0;
}
