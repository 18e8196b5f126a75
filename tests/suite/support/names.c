/* Preloaded into a program under test: the name exchange.test means the addresses that stand in the
 * file TEST_NAMES, one a line, at each look-up anew. Every other name means what it does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int look_up(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    look_up *real = (look_up *)dlsym(RTLD_NEXT, "getaddrinfo");
    const char *path = getenv("TEST_NAMES");
    if (node == NULL || path == NULL || strcmp(node, "exchange.test") != 0)
        return real(node, service, hints, found);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return EAI_AGAIN;
    char line[256];
    struct addrinfo **next = found;
    *found = NULL;
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] == '\0' || real(line, service, hints, next) != 0)
            continue;
        while (*next != NULL)
            next = &(*next)->ai_next;
    }
    fclose(file);
    return *found == NULL ? EAI_NONAME : 0;
}
